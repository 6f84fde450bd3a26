"""The proof of the slicer: what remains computes exactly what the whole model computes with the same units at zero."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swm.builtin.steps.keep import KeepStep
from swm.errors import FamilyError, PlanError
from swm.model.layer import Layer
from swm.model.ranges import format_ranges
from swm.model.surgery import keep_layers
from swm.model.units import Part
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units

PARTS: tuple[Part, ...] = ("attention", "mlp")
LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3")
HEADS: dict[str, dict[str, Any]] = {
    "no groups": {"num_attention_heads": 4, "num_key_value_heads": 4},
    "two to a group": {"num_attention_heads": 8, "num_key_value_heads": 4},
    "one KV head": {"num_attention_heads": 4, "num_key_value_heads": 1},
    "tied": {"num_attention_heads": 8, "num_key_value_heads": 4, "tie_word_embeddings": True},
    "wide heads": {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 16, "hidden_size": 48},
}
Kept = dict[tuple[int, Part], list[int]]


@torch.no_grad()
def logits(model: nn.Module, ids: Tensor) -> Tensor:
    result: Tensor = model(input_ids=ids).logits
    return result


def prunable(view: ModelView) -> Sequence[Part]:
    return PARTS if view.family.prunable_heads else ("mlp",)


def drawn(view: ModelView, seed: int, uniform: bool = False, parts: Sequence[Part] = ()) -> Kept:
    """Units to keep, other ones in every layer; as many in every layer if `uniform`."""
    chance = random.Random(seed)
    found: Kept = {}
    for part in parts or prunable(view):
        if part == "queries":
            found.update(drawn_queries(view, chance, uniform))
            continue
        units = view.layer(0).units(part)
        # The few heads may all stay in a layer, the channels never.
        least, most = max(1, units // 4), units if part == "attention" else units * 3 // 4
        count = chance.randint(least, most)
        for position in range(len(view.layers)):
            if not uniform:
                count = chance.randint(least, most)
            found[position, part] = sorted(chance.sample(range(units), count))
    return found


def drawn_queries(view: ModelView, chance: random.Random, uniform: bool) -> Kept:
    """Query heads to keep, as many of every KV head."""
    found: Kept = {}
    queries = view.layer(0).geometry.queries
    count = chance.randint(1, queries)
    for position in range(len(view.layers)):
        if not uniform:
            count = chance.randint(1, queries)
        groups = range(view.layer(position).geometry.kv_heads)
        found[position, "queries"] = sorted(
            group * queries + head for group in groups for head in chance.sample(range(queries), count)
        )
    return found


def cut(view: ModelView, kept: Kept) -> int:
    """Keep these units; returns the number of parameters that must have gone, counted from the widths."""
    gone = 0
    for (position, part), units in kept.items():
        layer = view.layer(position)
        total = sum(piece.view(layer.state[piece.key]).numel() for piece in layer.slices(part))
        each, rest = divmod(total, layer.units(part))
        assert (each, rest) == (layer.unit_parameters(part), 0)
        gone += each * (layer.units(part) - len(units))
        keep_units(view, position, part, units)
    return gone


@torch.no_grad()
def mask(view: ModelView, kept: Kept) -> None:
    """Zero what the reading projections read from the other units."""
    for (position, part), units in kept.items():
        layer = view.layer(position)
        reader = layer.reader(part)
        gone = torch.ones(reader.channels, dtype=torch.bool)
        gone[reader.kept(units)] = False
        weight = layer.state[reader.key]
        if reader.dim == 0:
            weight[gone] = 0
        else:
            weight[:, gone] = 0


def check_slicer(view: ModelView, ids: Tensor, seed: int, uniform: bool, parts: Sequence[Part] = ()) -> None:
    whole = ModelView(copy.deepcopy(view.model), view.family)
    parameters, dense = view.parameters(), logits(view.model, ids)
    kept, kv_heads = drawn(view, seed, uniform, parts), view.layer(0).geometry.kv_heads
    gone = cut(view, kept)
    mask(whole, kept)
    expected = logits(whole.model, ids)
    torch.testing.assert_close(logits(view.model, ids), expected, rtol=0, atol=1e-5)
    precise, masked = (logits(copy.deepcopy(v.model).double(), ids) for v in (view, whole))
    torch.testing.assert_close(precise, masked, rtol=0, atol=1e-9)
    assert (expected - dense).abs().max() > 1e-3
    assert view.parameters() == parameters - gone

    for position in range(len(view.layers)):
        shape, part_kept = view.layer(position).geometry, {p: kept[position, p] for p in parts or prunable(view)}
        assert shape.mlp == len(part_kept["mlp"])
        if "queries" in part_kept:
            assert shape.heads == len(part_kept["queries"])
            assert shape.kv_heads == kv_heads
        if "attention" in part_kept:
            assert shape.kv_heads == len(part_kept["attention"])
            assert shape.heads == shape.kv_heads * shape.queries
        check_counts(view, position)
    prompt = ids[:2]
    ask = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    cached = view.model.generate(input_ids=prompt, use_cache=True, **ask)
    assert torch.equal(cached, view.model.generate(input_ids=prompt, use_cache=False, **ask))
    assert torch.equal(cached, whole.model.generate(input_ids=prompt, use_cache=True, **ask))


def check_counts(view: ModelView, position: int) -> None:
    """Every module says the widths that its weights have, and reads them from a config that says them too."""
    shape, layer, family = view.layer(position).geometry, view.layers[position], view.family
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            assert tuple(module.weight.shape) == (module.out_features, module.in_features)
            assert module.bias is None or len(module.bias) == module.out_features
        elif type(module).__name__ == "Conv1D":
            assert tuple(module.weight.shape) == (module.nx, module.nf)
            assert len(module.bias) == module.nf
        for name, value in (
            ("num_heads", shape.heads),
            ("num_attention_heads", shape.heads),
            ("num_key_value_heads", shape.kv_heads),
            ("num_key_value_groups", shape.queries),
            ("head_dim", shape.head_dim),
            ("intermediate_size", shape.mlp),
        ):
            if name in vars(module):
                assert getattr(module, name) == value, name
        if hasattr(module, "config"):
            assert getattr(module.config, family.mlp_width) == shape.mlp
            if family.prunable_heads:
                assert module.config.num_attention_heads == shape.heads
                assert module.config.num_key_value_heads == shape.kv_heads
                assert module.config.head_dim == shape.head_dim


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("uniform", [True, False], ids=["uniform", "uneven"])
def test_the_cut_model_is_the_masked_model(view: ModelView, ids: Tensor, seed: int, uniform: bool) -> None:
    check_slicer(view, ids, seed, uniform)


@pytest.mark.parametrize("uniform", [True, False], ids=["uniform", "uneven"])
@pytest.mark.parametrize("heads", list(HEADS.values()), ids=list(HEADS))
@pytest.mark.parametrize("name", LLAMA_LIKE)
def test_heads_of_every_kind_are_cut_as_masked(tiny, view_of, ids: Tensor, name, heads, uniform) -> None:
    check_slicer(view_of(tiny(name, **heads)), ids, 11, uniform)


@pytest.mark.parametrize("uniform", [True, False], ids=["uniform", "uneven"])
@pytest.mark.parametrize("heads", [HEADS[name] for name in ("one KV head", "tied", "wide heads")])
@pytest.mark.parametrize("name", LLAMA_LIKE)
def test_single_query_heads_are_cut_as_masked(tiny, view_of, ids: Tensor, name, heads, uniform) -> None:
    check_slicer(view_of(tiny(name, **heads)), ids, 12, uniform, ("queries", "mlp"))


def test_query_heads_go_evenly(tiny, view_of) -> None:
    view = view_of(tiny("llama", **HEADS["two to a group"]))
    with pytest.raises(PlanError, match=r"as many query heads as the others; found \[2, 1, 1, 0\]"):
        keep_units(view, 0, "queries", [0, 1, 2, 4])


@pytest.mark.parametrize("bias", ["attention_bias", "mlp_bias"])
@pytest.mark.parametrize("seed", range(2))
def test_biases_are_cut_with_their_channels(tiny, view_of, ids: Tensor, bias: str, seed: int) -> None:
    check_slicer(view_of(tiny("llama", **HEADS["two to a group"], **{bias: True})), ids, seed, False)


def test_norms_of_heads_are_shared_and_stay(tiny, view_of, ids: Tensor) -> None:
    for name in ("qwen3", "gemma3_text"):
        view = view_of(tiny(name, **HEADS["two to a group"]))
        norms = {k: v.clone() for k, v in view.state(2).items() if k.startswith("norms.")}
        assert {"norms.self_attn.q_norm.weight", "norms.self_attn.k_norm.weight"} <= norms.keys()
        keep_units(view, 2, "attention", [1, 2])
        after = view.state(2)
        assert {k: v for k, v in after.items() if k.startswith("norms.")}.keys() == norms.keys()
        assert all(torch.equal(after[k], v) for k, v in norms.items())
        assert after["attention.q.weight"].shape == (4 * 8, 32)
        assert after["attention.k.weight"].shape == (2 * 8, 32)


def test_even_widths_stand_in_the_config_and_uneven_ones_in_copies(view: ModelView) -> None:
    part = prunable(view)[-1]
    field = view.family.mlp_width
    before, units = getattr(view.config, field), list(range(view.layer(0).geometry.mlp // 2))
    for position in range(5):
        keep_units(view, position, part, units)
    assert getattr(view.config, field) == before
    assert len({id(m.config) for layer in view.layers for m in layer.modules() if hasattr(m, "config")}) in (0, 6)
    keep_units(view, 5, part, units)
    assert getattr(view.config, field) == len(units)
    assert all(m.config is view.config for layer in view.layers for m in layer.modules() if hasattr(m, "config"))


def test_units_that_stay_lose_no_bit(view: ModelView) -> None:
    before = {k: v.clone() for k, v in view.state(1).items()}
    for part in prunable(view):
        keep_units(view, 1, part, range(view.layer(1).units(part)))
    after = view.state(1)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], v) for k, v in before.items())


@pytest.mark.parametrize("first", ["layers", "widths"])
def test_layers_and_widths_go_in_any_order(tiny, view_of, ids: Tensor, first: str) -> None:
    for name in ("llama", "gemma3_text", "qwen2", "gpt2", "opt"):
        view = view_of(tiny(name))
        whole = ModelView(copy.deepcopy(view.model), view.family)
        kept = drawn(view, 5, uniform=True)
        mask(whole, kept)
        keep_layers(whole, [0, 1, 4, 5])
        if first == "widths":
            cut(view, kept)
            keep_layers(view, [0, 1, 4, 5])
        else:
            keep_layers(view, [0, 1, 4, 5])
            cut(view, {(view.numbers.index(i), part): u for (i, part), u in kept.items() if i in view.numbers})
        torch.testing.assert_close(logits(view.model, ids), logits(whole.model, ids), rtol=0, atol=1e-5)


def test_a_cut_that_changes_no_shape_raises(llama: ModelView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swm.model.layer.Layer.state_with", lambda layer, part, units: layer.state)
    with pytest.raises(PlanError, match="layer 0: the mlp cut did not give 3 units everywhere"):
        keep_units(llama, 0, "mlp", [0, 1, 2])


@pytest.mark.parametrize("part", PARTS)
def test_a_cut_that_misses_a_projection_raises(llama: ModelView, part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    state_with = Layer.state_with

    def careless(layer: Layer, *args: Any) -> dict[str, Tensor]:
        missed = "attention.k.weight" if part == "attention" else "mlp.up.weight"
        return {**state_with(layer, *args), missed: layer.state[missed]}

    monkeypatch.setattr("swm.model.layer.Layer.state_with", careless)
    with pytest.raises(PlanError, match=f"layer 2: the {part} cut did not give 1 units everywhere"):
        keep_units(llama, 2, part, [0])


def test_a_row_that_forgets_a_projection_is_refused(llama: ModelView) -> None:
    row = replace(llama.family, projections={k: v for k, v in llama.family.projections.items() if k != "mlp.up"})
    with pytest.raises(FamilyError, match="'llama' says nothing of mlp"):
        keep_units(ModelView(llama.model, row), 0, "mlp", [0, 1, 2])


def test_a_norm_over_all_heads_is_refused(llama: ModelView) -> None:
    for layer in llama.layers:
        # As OLMo 2 has it.
        layer.self_attn.q_norm = nn.RMSNorm(32)
    with pytest.raises(FamilyError, match=r"'llama' says nothing of self_attn.q_norm.weight \[32\]"):
        keep_units(llama, 0, "attention", [0])


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (KeepStep(9, "mlp", "0-3", 64), "layer 9; the model has layers 0-5"),
        (KeepStep(1, "mlp", "0-3", 60), "expects 60 mlp units in layer 1; there are 64"),
    ],
)
def test_a_step_that_does_not_fit_is_refused_and_changes_nothing(llama: ModelView, step, message) -> None:
    before = llama.fingerprint()
    with pytest.raises(PlanError, match=message):
        step.apply(llama, {})
    assert llama.fingerprint() == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1, "mlp", "", 64), "keeps no mlp unit of layer 1; at least one must stay"),
        ((1, "attention", "", 2), "keeps no attention unit of layer 1"),
        ((1, "mlp", "0-64", 64), "units 0-64 of layer 1; there are 64"),
        ((1, "attention", "2", 2), "units 2 of layer 1; there are 2"),
        ((1, "attention", "x", 2), "'x' is not a set"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(values, message) -> None:
    with pytest.raises(ValueError, match=message):
        KeepStep(*values)


def test_a_step_names_the_original_layer(llama: ModelView) -> None:
    keep_layers(llama, [0, 3, 5])
    KeepStep(3, "mlp", format_ranges([1, 2, 9]), 64).apply(llama, {})
    assert [llama.layer(i).geometry.mlp for i in range(3)] == [64, 3, 64]
    with pytest.raises(PlanError, match="layer 2; the model has layers 0,3,5"):
        KeepStep(2, "mlp", "1", 64).apply(llama, {})


def test_biases_of_a_plan_get_the_dtype_of_the_weights(tiny, view_of) -> None:
    view = view_of(tiny("llama"))
    view.model.to(torch.bfloat16)
    biases = {"mlp.down.bias": torch.ones(32, dtype=torch.float64)}
    keep_units(view, 0, "mlp", range(8), biases)
    assert {value.dtype for i in range(6) for value in view.state(i).values()} == {torch.bfloat16}


def test_biases_of_a_plan_get_the_device_of_the_weights(tiny, view_of) -> None:
    view = view_of(tiny("llama"))
    view.model.to("meta")
    biases = {"mlp.down.bias": torch.ones(32), "mlp.up.bias": torch.zeros(8), "mlp.gate.bias": torch.zeros(8)}
    keep_units(view, 0, "mlp", range(8), biases)
    assert {value.device.type for i in range(6) for value in view.state(i).values()} == {"meta"}
