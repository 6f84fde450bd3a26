"""ModelView: every family's layers can be run one by one, and the model's own numbers come out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from swm.errors import FamilyError
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


def test_a_layer_runs_with_another_layers_parameters_without_being_changed(llama: ModelView, ids: Tensor) -> None:
    recording = llama.record(ids)
    hidden = recording.states[0]
    before = llama.fingerprint()
    as_layer_4 = llama.run_layer(recording, 1, hidden, llama.state(4))
    torch.testing.assert_close(as_layer_4, llama.run_layer(recording, 4, hidden), rtol=0, atol=0)
    assert not torch.equal(as_layer_4, llama.run_layer(recording, 1, hidden))
    assert llama.fingerprint() == before


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


def test_a_config_that_contradicts_the_modules_is_refused(tiny, view_of) -> None:
    model = tiny("llama")
    model.config.num_hidden_layers = 5
    with pytest.raises(FamilyError, match=r"config says 5 layers, model\.layers has 6"):
        view_of(model)
