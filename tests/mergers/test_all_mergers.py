"""How the built-in mergers treat copies, biases and norms; what every merger must do stands in `swm.testing`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.model.state import State
from swm.plugins.loading import load_plugins

REGISTRY = load_plugins().registry
NORMS = ("bottom", "top", "mean")
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "average": [{"norms": n} for n in NORMS],
    "consolidate": [{"formula": f, "norms": n} for f in ("telescoped", "literal") for n in NORMS],
    "delete": [{"keep": k} for k in ("auto", "bottom", "top")],
    "ema": [{"factor": f, "norms": n} for f in (0.0, 0.3, 1.0) for n in NORMS],
    "sum": [{"norms": n} for n in NORMS],
}
SHAPES = {
    "attention.q.weight": (8, 6),
    "attention.q.bias": (8,),
    "attention.k.weight": (4, 6),
    "mlp.down.weight": (6, 12),
    "mlp.down.bias": (6,),
    "norms.input_layernorm.weight": (6,),
    "norms.self_attn.q_norm.weight": (2,),
}


def mergers() -> list[Any]:
    cases = []
    for name in REGISTRY.names("merger"):
        for parameters in VARIANTS.get(name, [{}]):
            merger = REGISTRY.build("merger", {"name": name, **parameters})
            assert isinstance(merger, LayerMerger)
            if not merger.needs_activations:
                cases.append(pytest.param(merger, id="-".join([name, *map(str, parameters.values())])))
    return cases


every_merger = pytest.mark.parametrize("merger", mergers())


def layer(dtype: torch.dtype = torch.float32) -> State:
    return {key: torch.randn(shape).to(dtype) for key, shape in SHAPES.items()}


def copies(state: State) -> State:
    return {key: value.clone() for key, value in state.items()}


@every_merger
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_copies_of_one_layer_give_that_layer_or_a_multiple_where_they_are_summed(
    merger: LayerMerger, dtype: torch.dtype, count: int
) -> None:
    state = layer(dtype)
    merged = merger.merge(LayerWindow([copies(state) for _ in range(count)]))
    for key, value in merged.items():
        times = count if merger.name == "sum" and not key.startswith("norms.") else 1
        torch.testing.assert_close(value, (times * state[key].double()).to(dtype))


@every_merger
def test_biases_are_treated_like_weights(merger: LayerMerger) -> None:
    states = [
        {"attention.q.weight": value, "attention.q.bias": value.clone()} for value in (torch.randn(5) for _ in range(4))
    ]
    merged = merger.merge(LayerWindow(states))
    assert torch.equal(merged["attention.q.weight"], merged["attention.q.bias"])


@every_merger
def test_all_norms_are_treated_alike(merger: LayerMerger) -> None:
    keys = ("norms.input_layernorm.weight", "norms.self_attn.q_norm.weight", "norms.mlp.extra.bias")
    states = [dict.fromkeys(keys, torch.randn(3)) for _ in range(4)]
    first, *others = merger.merge(LayerWindow(states)).values()
    assert all(torch.equal(first, other) for other in others)


@every_merger
def test_parameters_are_merged_independently_of_each_other(merger: LayerMerger) -> None:
    states = [layer() for _ in range(3)]
    together = merger.merge(LayerWindow(states))
    for key in SHAPES:
        alone = merger.merge(LayerWindow([{key: state[key]} for state in states]))
        assert torch.equal(alone[key], together[key])
