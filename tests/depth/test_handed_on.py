"""Layers that read keys and values of earlier ones: a trial is the really merged model, whatever was tried before."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from zoo import CAUSAL, VOCABULARY

from swm.builtin.families import BUILTIN_FAMILIES
from swm.checkpoint.export import export
from swm.depth.activations import RecordedActivations
from swm.depth.engine import DepthEngine
from swm.errors import FamilyError, WindowError
from swm.interfaces.merger import LayerMerger
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext
from swm.interfaces.text import Calibration
from swm.mergers.delete import Delete
from swm.model.config_depth import key_sources
from swm.model.families import find_family
from swm.model.shape import shape_now
from swm.model.surgery import keep_layers
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.similarity.cosine import Cosine
from swm.width.gradients import layer_gradients

IDS = torch.arange(3, 75).reshape(6, 12)
KINDS = ["sliding_attention"] * 2 + ["full_attention"] * 2 + ["sliding_attention", "full_attention"]
# Layer 4 reads what layer 1 makes, layer 5 what layer 3 makes.
REMOVABLE = (0, 2, 4)


@pytest.fixture
def view() -> ModelView:
    values = {**CAUSAL["gemma4_text, shared"], "num_hidden_layers": 6, "layer_types": KINDS, "vocab_size": VOCABULARY}
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() > 1:
                value.normal_(std=0.15)
    return ModelView(model, find_family(config, BUILTIN_FAMILIES))


def engine_of(view: ModelView, merger: LayerMerger) -> DepthEngine:
    context = StageContext(view, Calibration(IDS, "text", "none"), shape_now(view), 0, Silent())
    return DepthEngine(context, Cosine(), merger, 1)


def deletion(layer: int) -> Window:
    """A window that leaves out this layer and keeps the other one as it is."""
    return Window(layer - 1, layer, "bottom") if layer else Window(0, 1, "top")


@torch.no_grad()
def loss_without(view: ModelView, gone: list[int]) -> float:
    cut = ModelView(copy.deepcopy(view.model), view.family)
    keep_layers(cut, [layer for layer in range(6) if layer not in gone])
    loss: Tensor = cut.model(input_ids=IDS, labels=IDS).loss
    return float(loss)


def test_the_sources_are_those_of_the_config(view: ModelView) -> None:
    assert key_sources(view.config) == {4: 1, 5: 3}


@pytest.mark.parametrize("order", [REMOVABLE, REMOVABLE[::-1]])
def test_trials_in_any_order_are_the_really_cut_model(view: ModelView, order: tuple[int, ...]) -> None:
    engine = engine_of(view, Delete())
    for gone in order:
        assert engine.loss([deletion(gone)]) == pytest.approx(loss_without(view, [gone]), abs=1e-5)
    assert engine.loss([]) == pytest.approx(loss_without(view, []), abs=1e-5)


def test_what_was_committed_below_is_handed_on_to_the_layers_above(view: ModelView) -> None:
    engine = engine_of(view, Delete())
    engine.commit([deletion(0)])
    assert engine.loss([deletion(0), deletion(4)]) == pytest.approx(loss_without(view, [0, 4]), abs=1e-5)


@pytest.mark.parametrize("source", [1, 3])
def test_a_layer_whose_keys_others_read_stays(view: ModelView, source: int) -> None:
    with pytest.raises(WindowError, match=rf"reads the keys and values of layer {source}"):
        engine_of(view, Delete()).check([deletion(source)])


def test_some_samples_are_run_with_their_own_tokens(view: ModelView) -> None:
    recording = view.record(IDS)
    ends = recording.states[1], recording.states[1], recording.states[3]
    activations, samples = RecordedActivations(view, recording, Window(1, 2), *ends), torch.tensor([4, 1])
    some = activations.run_some(samples, view.state(1))
    torch.testing.assert_close(some, recording.states[2][samples], rtol=0, atol=1e-5)


def test_the_tables_beside_the_layers_count_as_theirs(view: ModelView) -> None:
    before, layers = view.parameters(), view.layer_parameters()
    keep_layers(view, [0, 1, 3, 4, 5])
    assert before - view.parameters() == layers[2]
    assert view.body.get_submodule("embed_tokens_per_layer").embedding_dim == 5 * 8


def test_gradients_layer_by_layer_are_refused(view: ModelView) -> None:
    with pytest.raises(FamilyError, match="layer 4 reads the keys and values of layer 1"):
        next(layer_gradients(view, IDS, {0}, per_sample=False))


def test_without_a_layer_it_loads_as_its_own_class(view: ModelView, tmp_path: Path) -> None:
    keep_layers(view, [0, 1, 3, 4, 5])
    exported = export(view, "native")
    exported.write(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert not exported.needs_code
    assert type(again) is type(view.model)
    with torch.no_grad():
        assert torch.equal(again(input_ids=IDS).logits, view.model(input_ids=IDS).logits)
