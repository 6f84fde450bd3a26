"""What stands in place of a sub-block that is gone. Its code is also written into saved folders: it needs no swm."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class RemovedBlock(nn.Module):
    """Adds nothing to the residual stream, as the block would with an output projection of zeros."""

    def __init__(
        self,
        block: nn.Module,
        returns: int = 0,
        gives: int | str | None = None,
        width: int | None = None,
        cache: str | None = None,
    ) -> None:
        """What the layer gets in place of the block's output.

        Args:
            block: The block.
            returns: How many values the layer expects, 0 for a tensor alone; all but the first are None.
            gives: The argument, by place or keyword, that is the first: a block may add to the residual stream itself.
                None for zeros.
            width: The last dimension of the zeros, None where it is that of the input.
            cache: What the block kept between passes: `keys`, `states`, or None for nothing. One number a token tells
                the cache its length.
        """
        super().__init__()
        self.returns, self.gives, self.width, self.cache = returns, gives, width, cache
        self.layer_idx: Any = None
        for module in block.modules():
            for name in ("layer_idx", "layer_id", "layer_index"):
                if isinstance(vars(module).get(name), int):
                    self.layer_idx = vars(module)[name]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        values = [*args, *kwargs.values()]
        hidden = next(value for value in values if isinstance(value, torch.Tensor))
        if self.cache is not None and self.layer_idx is not None:
            for value in values:
                if hasattr(value, "get_seq_length"):
                    self.tell_length(value, hidden)
        if self.gives is None:
            first = hidden.new_zeros(*hidden.shape[:-1], self.width or hidden.shape[-1])
        else:
            first = kwargs[self.gives] if isinstance(self.gives, str) else args[self.gives]
        return (first, *[None] * (self.returns - 1)) if self.returns else first

    def tell_length(self, cache: Any, hidden: torch.Tensor) -> None:
        """Put one number a token into the cache's layer."""
        layer = cache.layers[self.layer_idx] if self.layer_idx < len(cache.layers) else None
        with_keys = layer is None or hasattr(layer, "get_mask_sizes")
        if hasattr(layer, "update_conv_state") and (self.cache == "states" or not with_keys):
            cache.update_conv_state(hidden.new_zeros(len(hidden), 1, 1), self.layer_idx)
        elif with_keys:
            keys = hidden.new_zeros(len(hidden), 1, hidden.shape[1], 1)
            cache.update(keys, keys, self.layer_idx)


def remove_blocks(layer: nn.Module, removed: dict[str, dict[str, Any]]) -> None:
    """Put a `RemovedBlock` with these settings in place of each module, given by its path in the layer."""
    for path, settings in removed.items():
        owner, _, name = path.rpartition(".")
        parent = layer.get_submodule(owner)
        setattr(parent, name, RemovedBlock(getattr(parent, name), **settings))
