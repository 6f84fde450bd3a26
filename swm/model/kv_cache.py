"""Keys and values that a model keeps between passes: how its transformers release names them, and how large they are.

No row of a family says how large they are. A few tokens are run on the meta device, where nothing takes memory, and the
cache is looked at: so it is known of grouped queries, of latents that stand for all heads, of windows beyond which
nothing is kept, of recurrent states, and of layers that read what another one keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call  # type: ignore[attr-defined,unused-ignore]

from swm.errors import FamilyError, brief
from swm.model.experts import expert_weights
from swm.model.quiet import quiet_transformers
from swm.model.view import ModelView

# transformers 5.24 renamed the second to the first, and warns of it.
NAMES = ("cache", "past_key_values")
# So many tokens show what grows with them.
TOKENS = 4


def kv_cache_of(output: Any) -> dict[str, Any]:
    """The keys and values in a model's output as the argument that hands them to its next pass; empty without any."""
    for name in NAMES:
        cache = output.get(name)
        if cache is not None:
            return {name: cache}
    return {}


@dataclass(frozen=True)
class LayerCache:
    """What one layer keeps of one sequence, in bytes: `each` a token, up to `window` of them, and `fixed` whatever is
    read. Its keys have so many `heads`: one, where a latent stands for all of them."""

    each: int = 0
    fixed: int = 0
    window: int | None = None
    heads: int = 0

    def growing(self, context: int) -> int:
        """The bytes of the keys and values of so many tokens."""
        return self.each * (context if self.window is None else min(context, self.window))

    def size(self, context: int) -> int:
        """All bytes after so many tokens."""
        return self.growing(context) + self.fixed


def layer_caches(view: ModelView, dtype: torch.dtype) -> list[LayerCache]:
    """What each layer keeps of a sequence when the model computes in `dtype`. The model needs no weights.

    Raises FamilyError for a model that keeps something else than keys, values and recurrent states, or cannot be run
    without numbers.
    """
    # Several stages ask, some more than once, and the run takes a while in a deep model.
    known: dict[Any, list[LayerCache]] = vars(view).setdefault("_layer_caches", {})
    shapes = tuple((name, value.shape) for name, value in view.layers.named_parameters())
    key = dtype, tuple(view.numbers), shapes
    if key not in known:
        known[key] = _observed(view, dtype)
    return known[key]


@torch.no_grad()
def _observed(view: ModelView, dtype: torch.dtype) -> list[LayerCache]:
    """As `layer_caches`."""
    body = view.body
    tensors = {
        name: torch.empty_like(value, device="meta", dtype=dtype if value.is_floating_point() else None)
        for name, value in body.named_parameters()
    }
    tensors |= {name: value.to("meta") for name, value in body.named_buffers()}
    ids = torch.zeros((1, TOKENS), dtype=torch.long, device="meta")
    states = torch.zeros((1, TOKENS, view.config.hidden_size), dtype=dtype, device="meta")
    failure: Exception = RuntimeError()
    tried = 0
    layers: list[Any] = []
    # Some models look for padding among the ids, which are no numbers here; others make more of ids than states.
    for given in ({"input_ids": ids}, {"inputs_embeds": states}):
        try:
            with quiet_transformers(), _experts_skipped(view), torch.device("meta"):
                output = functional_call(body, tensors, (), {**given, "use_cache": True})
            [cache] = kv_cache_of(output).values()
            layers = list(cache.layers)
            break
        except Exception as error:  # each architecture fails in its own way without numbers
            failure = error if not tried else failure
            tried += 1
    else:
        raise FamilyError(
            f"what a model of type '{view.config.model_type}' keeps between tokens cannot be told: "
            f"{type(failure).__name__}: {brief(failure)}; use a target in params or ratio"
        ) from failure
    # A cache that grows as it is filled ends with the last layer that keeps something.
    layers += [None] * (len(view.layers) - len(layers))
    return [_seen(layer, view) for layer in layers]


def _seen(layer: Any, view: ModelView) -> LayerCache:
    if layer is None:
        return LayerCache()
    kept = {"keys", "values"} & vars(layer).keys()
    pair = [value for value in (vars(layer)[name] for name in sorted(kept)) if isinstance(value, Tensor)]
    states = [value for name in ("conv_states", "recurrent_states") for value in _tensors(vars(layer).get(name))]
    others = [
        name
        for name, value in vars(layer).items()
        if name not in {"keys", "values", "conv_states", "recurrent_states"}
        and any(tensor.is_floating_point() for tensor in _tensors(value))
    ]
    window = getattr(layer, "sliding_window", None)
    # The newest token of a window is not kept: it is there when the next one is read.
    most = None if window is None else max(int(window) - 1, 1)
    seen = TOKENS if most is None else min(TOKENS, most)
    if others or any(value.dim() != 4 or value.shape[-2] != seen for value in pair):
        raise FamilyError(
            f"layers of model_type '{view.config.model_type}' keep {' and '.join(others) or 'keys of another form'} in "
            f"a {type(layer).__name__}, whose size is not known; use a target in params or ratio"
        )
    return LayerCache(
        each=sum(value.numel() * value.element_size() for value in pair) // seen,
        fixed=sum(value.numel() * value.element_size() for value in states),
        window=most,
        heads=pair[0].shape[1] if pair else 0,
    )


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [item for item in value if isinstance(item, Tensor)] if isinstance(value, list | tuple) else []


@contextmanager
def _experts_skipped(view: ModelView) -> Iterator[None]:
    """Experts give back what they get: which tokens each is sent depends on numbers, and changes no cache."""
    skipped: list[nn.Module] = [layer.get_submodule(path) for layer in view.layers for path in expert_weights(layer)]
    for module in skipped:
        setattr(module, "forward", lambda hidden, *args, **kwargs: hidden)  # noqa: B010  no submodule
    try:
        yield
    finally:
        for module in skipped:
            del module.forward
