"""Layer: one layer of a model, with its tensors, its widths and the places of its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call  # type: ignore[attr-defined,unused-ignore]

from swm.errors import FamilyError
from swm.model.families import ModelFamily
from swm.model.recording import LayerCall, first_tensor
from swm.model.replacement import Replaced
from swm.model.units import READERS, ChannelSlice, Geometry, Part, channel_slices, features


@dataclass(frozen=True, eq=False)
class Layer:
    """The layer at `position` as it is now; `number` is the one that it had in the original model.

    What is read from the module is read once, so ask `ModelView.layer` again after a change of it. `replaced` names
    the modules in it, by their path, that stand in place of a projection.
    """

    module: nn.Module
    family: ModelFamily
    config: Any
    position: int
    number: int
    replaced: Mapping[str, Replaced]

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The parameters under canonical names; the tensors are the model's own."""
        return {self.family.canonical(key): p.detach() for key, p in self.module.named_parameters()}

    @cached_property
    def geometry(self) -> Geometry:
        """The widths. Raises FamilyError for a family whose row does not name all that a cut must reach."""
        family, config, paths = self.family, self.config, self.family.projections
        keys = "attention.k" if paths.get("attention.k") else "attention.qkv"
        if not paths.get(keys) or not set(READERS.values()) <= paths.keys():
            raise FamilyError(f"family row '{family.name}' names no projections, so widths cannot be pruned")
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = features(self.projection(READERS["attention"]))[0] // head_dim
        written = features(self.projection(keys))[1] // head_dim
        # One matrix may make queries, keys and values.
        kv_heads = written if "attention.k" in paths else (written - heads) // 2
        self._check_rest(head_dim)
        return Geometry(heads, kv_heads, head_dim, features(self.projection(READERS["mlp"]))[0])

    def _check_rest(self, head_dim: int) -> None:
        """Raise FamilyError for a matrix that the row forgets, or a norm over all heads: a cut would miss them."""
        attention = "norms." + self.family.projections[READERS["attention"]].rpartition(".")[0] + "."
        for key, value in self.state.items():
            of_heads = key.startswith(attention) and value.numel() != head_dim
            if key.startswith("norms.") and (value.dim() > 1 or of_heads):
                raise FamilyError(
                    f"family row '{self.family.name}' says nothing of {self.family.native(key)} {list(value.shape)}, "
                    "so widths cannot be pruned"
                )

    def projection(self, role: str) -> nn.Module:
        """The module with this canonical name (`attention.q`, `mlp.down`, ...)."""
        return self.module.get_submodule(self.family.projections[role])

    def slices(self, part: Part) -> list[ChannelSlice]:
        """Every place of a part's channels, the projection that reads them last."""
        return channel_slices(self.family, self.state, self.geometry, part)

    def reader(self, part: Part) -> ChannelSlice:
        """The place of a part's channels in the projection that reads them."""
        return self.slices(part)[-1]

    def units(self, part: Part) -> int:
        """How many units a part has."""
        return self.geometry.units(part)

    def unit_parameters(self, part: Part) -> int:
        """How many parameters go with one unit of a part."""
        return sum(piece.view(self.state[piece.key]).numel() for piece in self.slices(part)) // self.units(part)

    def state_with(self, part: Part, units: Sequence[int]) -> dict[str, Tensor]:
        """The state with only these units of a part; other parameters are returned as they are."""
        state = dict(self.state)
        by_key: dict[str, list[ChannelSlice]] = {}
        for piece in self.slices(part):
            by_key.setdefault(piece.key, []).append(piece)
        for key, pieces in by_key.items():
            value, dim = state[key], pieces[0].dim
            stays = torch.ones(value.shape[dim], dtype=torch.bool)
            for piece in pieces:
                stays[piece.offset : piece.offset + piece.channels] = ~piece.removed(units)
            state[key] = value.index_select(dim, stays.nonzero().flatten().to(value.device)).contiguous()
        return state

    def run(self, call: LayerCall, hidden: Tensor, state: Mapping[str, Tensor] | None = None) -> Tensor:
        """Run the layer on `hidden` `[samples, seq, hidden]`, with gradients where they are enabled.

        `call` holds its other arguments; `state` (canonical names) stands in place of its own parameters.
        """
        args = (hidden, *call.args)
        if state is None:
            return first_tensor(self.module(*args, **call.kwargs))
        native = {self.family.native(name): tensor for name, tensor in state.items()}
        return first_tensor(functional_call(self.module, native, args, dict(call.kwargs)))

    @torch.no_grad()
    def run_watched(
        self, call: LayerCall, hidden: Tensor, role: str, state: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `run`, with what enters a projection.

        Args:
            call: The other arguments of the layer.
            hidden: The hidden states that enter it, `[samples, seq, hidden]`.
            role: The canonical name of the projection.
            state: Parameters (canonical names) in place of the layer's own.

        Returns:
            The output of the layer, and the input of the projection `[samples, seq, channels]`.
        """
        inputs: list[Tensor] = []
        handle = self.projection(role).register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach()))
        try:
            output = self.run(call, hidden, state)
        finally:
            handle.remove()
        # Some layers flatten samples and positions into one dimension.
        return output, inputs[0].reshape(*hidden.shape[:2], -1)
