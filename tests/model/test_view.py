"""ModelView: every family's layers can be run one by one, and the model's own numbers come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from swm.errors import FamilyError
from swm.model.families import find_family
from swm.model.view import ModelView


def padding(ids: Tensor, side: str) -> Tensor | None:
    """A mask whose rows have 0, 1, 3, 5 and 2 tokens of padding."""
    if side == "none":
        return None
    mask = torch.ones_like(ids)
    for row, count in zip(mask, (0, 1, 3, 5, 2), strict=True):
        if side == "left":
            row[:count] = 0
        else:
            row[len(row) - count :] = 0
    return mask


@pytest.mark.parametrize("batch_size", [None, 2], ids=["one batch", "batches of 2"])
@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_the_layers_from_every_boundary_end_in_the_models_own_states(
    view: ModelView, ids: Tensor, side: str, batch_size: int | None
) -> None:
    mask = padding(ids, side)
    real = torch.ones_like(ids).bool() if mask is None else mask.bool()
    with torch.no_grad():
        own = view.body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        logits = view.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    recording = view.record(ids, mask, batch_size)
    assert len(recording.states) == len(view.layers) + 1 == 7
    assert len(recording.calls) == (1 if batch_size is None else 3)
    for boundary, hidden in enumerate(recording.states):
        for position in range(boundary, len(view.layers)):
            hidden = view.run_layer(recording, position, hidden)
        torch.testing.assert_close(view.tail(hidden)[real], own[real], rtol=0, atol=1e-5)
        torch.testing.assert_close(view.logits(hidden)[real], logits[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", ["none", "left"])
def test_what_layers_are_given_is_recorded_without_running_them_on_all_of_the_text(
    view: ModelView, ids: Tensor, side: str
) -> None:
    ids = torch.cat([ids, ids.flip(0), ids])
    mask = padding(ids[:5], side)
    mask = None if mask is None else mask.repeat(3, 1)
    runs = [0] * len(view.layers)

    def count(layer: int) -> Callable[..., Any]:
        own = view.layers[layer].forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            runs[layer] += 1
            return own(*args, **kwargs)

        return forward

    whole = view.record(ids, mask, 3)
    counting = [count(layer) for layer in range(len(view.layers))]
    for layer, forward in zip(view.layers, counting, strict=True):
        layer.forward = forward
    try:
        first = view.record(ids, mask, 3, only_first=True)
        assert [layer.forward for layer in view.layers] == counting
    finally:
        for layer in view.layers:
            del layer.forward
    assert runs == [1] * len(view.layers)
    torch.testing.assert_close(first.states, whole.states[:1], rtol=0, atol=0)
    assert len(first.calls) == len(whole.calls) == 5
    hidden = first.states[0]
    for position in range(len(view.layers)):
        hidden = view.run_layer(first, position, hidden)
    torch.testing.assert_close(hidden, whole.states[-1], rtol=0, atol=0)


def test_a_layer_runs_with_another_layers_parameters_without_being_changed(llama: ModelView, ids: Tensor) -> None:
    recording = llama.record(ids)
    hidden = recording.states[0]
    before = llama.fingerprint()
    as_layer_4 = llama.run_layer(recording, 1, hidden, llama.state(4))
    torch.testing.assert_close(as_layer_4, llama.run_layer(recording, 4, hidden), rtol=0, atol=0)
    assert not torch.equal(as_layer_4, llama.run_layer(recording, 1, hidden))
    assert llama.fingerprint() == before


def test_recording_and_logits_leave_no_trace_in_the_model(view: ModelView, ids: Tensor) -> None:
    with torch.no_grad():
        before = view.model(input_ids=ids).logits
        view.logits(view.record(ids).states[-1])
        after = view.model(input_ids=ids).logits
    assert torch.equal(before, after)
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in view.layers)
    assert "forward" not in vars(view.body)


def test_a_failing_forward_pass_leaves_no_hooks(llama: ModelView, ids: Tensor) -> None:
    with pytest.raises(IndexError):
        llama.record(ids + 1000)
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in llama.layers)


def test_parameters_are_counted_once(view: ModelView) -> None:
    assert view.parameters() == view.model.num_parameters()
    per_layer = view.layer_parameters()
    assert per_layer == [sum(value.numel() for value in view.state(i).values()) for i in range(6)]
    assert len(set(per_layer)) == 1


@pytest.mark.parametrize(
    ("name", "layer", "rest"),
    [
        # q and o 32x32, k and v 32x16, three 32x64, two norms; embedding, head and final norm.
        ("llama", 2 * 1024 + 2 * 512 + 3 * 2048 + 64, 2 * 96 * 32 + 32),
        # qkv 32x96, o 32x32, up 32x128, down 128x32 with biases, two norms with biases; tied embedding, 64 positions.
        ("gpt2", 3072 + 96 + 1024 + 32 + 4096 + 128 + 4096 + 32 + 128, 96 * 32 + 64 * 32 + 64),
    ],
)
def test_parameter_counts_by_hand(tiny, view_of, name: str, layer: int, rest: int) -> None:
    view = view_of(tiny(name))
    assert view.layer_parameters() == [layer] * 6
    assert view.parameters() == 6 * layer + rest


def test_key_names_round_trip_and_only_norms_are_norms(view: ModelView) -> None:
    family = view.family
    native = [key for key, _ in view.layers[0].named_parameters()]
    canonical = [family.canonical(key) for key in native]
    assert [family.native(key) for key in canonical] == native
    assert list(view.state(0)) == canonical
    assert len(set(canonical)) == len(canonical)
    for key, value in view.state(0).items():
        part = key.split(".")[0]
        assert part in {"attention", "mlp", "norms"}
        assert (part == "norms") == ("norm" in family.native(key) or "ln_" in family.native(key))
        if part == "norms":
            assert value.dim() == 1
    assert {"attention.o.weight", "mlp.down.weight"} <= set(canonical)


def test_one_changed_weight_changes_the_fingerprint(any_model: PreTrainedModel, view: ModelView) -> None:
    before = view.fingerprint()
    assert view.fingerprint() == before
    for value in (view.state(3)["mlp.down.weight"], dict(any_model.named_parameters()).popitem()[1].detach()):
        kept = value.view(-1)[0].clone()
        value.view(-1)[0] += 1e-3
        assert view.fingerprint() != before
        value.view(-1)[0] = kept
    assert view.fingerprint() == before


def test_the_fingerprint_names_the_model_and_not_the_object(tiny, view_of, llama: ModelView) -> None:
    assert view_of(tiny("llama")).fingerprint() == llama.fingerprint()
    assert view_of(tiny("llama").bfloat16()).fingerprint() != llama.fingerprint()


def test_a_config_that_contradicts_the_modules_is_refused(tiny, view_of) -> None:
    model = tiny("llama")
    model.config.num_hidden_layers = 5
    with pytest.raises(FamilyError, match=r"config says 5 layers, model\.layers has 6"):
        view_of(model)


def test_layers_whose_arithmetic_depends_on_their_position_are_refused(tiny, plugins) -> None:
    config = tiny("gpt2").config
    config.scale_attn_by_inverse_layer_idx = True
    with pytest.raises(FamilyError, match="scale_attn_by_inverse_layer_idx"):
        find_family(config, plugins.registry.families)
