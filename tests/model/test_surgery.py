"""Surgery: after a merge the model is a smaller model of its family, and the one that the trial ran."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from swm.builtin.steps.merge import MergeStep
from swm.depth.engine import DepthEngine
from swm.errors import PlanError
from swm.interfaces.merger import LayerMerger, LayerWindow, surviving_layer
from swm.interfaces.progress import Silent
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import StageContext
from swm.interfaces.text import Calibration
from swm.mergers.average import Average
from swm.mergers.consolidate import Consolidate
from swm.mergers.delete import Delete
from swm.model.shape import ModelShape
from swm.model.state import State
from swm.model.surgery import keep_layers, merge_layers
from swm.model.view import ModelView
from swm.model.windows import End, Window, windows_without


@dataclass(frozen=True)
class Raise(LayerMerger):
    """The mean in the module of the top layer; no built-in merger writes new weights there."""

    name = "raise"

    def merge(self, window: LayerWindow) -> State:
        return Average().merge(window)

    def survivor(self, keep: End | None) -> End:
        return "top"


MERGERS = [Consolidate(), Delete("top"), Average(), Raise()]


@dataclass(frozen=True)
class Catch(SimilarityMetric):
    """Keeps the merged model's last hidden states."""

    name = "catch"
    space = "hidden"

    caught: list[Tensor] = field(default_factory=list)

    def compare(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> float:
        self.caught.append(candidate)
        return 0.0


def trial_logits(view: ModelView, ids: Tensor, merger: LayerMerger, windows: Sequence[Window]) -> Tensor:
    """The logits of the merged model as the depth engine sees it, without any surgery."""
    catch = Catch()
    shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
    context = StageContext(view, Calibration(ids, {}, 0), shape, 0, Silent())
    DepthEngine(context, catch, merger, None).trial(windows)
    return view.logits(catch.caught[-1])


def merge(view: ModelView, merger: LayerMerger, window: Window) -> None:
    """Merge the layers with these original numbers."""
    MergeStep(str(window), surviving_layer(merger, window), merger, window.keep).apply(view, {})


@torch.no_grad()
def logits(model: nn.Module, ids: Tensor) -> Tensor:
    result: Tensor = model(input_ids=ids).logits
    return result


@pytest.mark.parametrize("merger", MERGERS, ids=lambda merger: merger.name)
def test_the_merged_model_is_the_one_that_the_trial_ran(view: ModelView, ids: Tensor, merger: LayerMerger) -> None:
    types = getattr(view.config, "layer_types", None)
    before = logits(view.model, ids)
    expected = trial_logits(view, ids, merger, [Window(2, 4)])
    assert (expected - before).abs().max() > 1e-2
    merge(view, merger, Window(2, 4))

    torch.testing.assert_close(logits(view.model, ids), expected, rtol=0, atol=1e-5)
    assert view.numbers == ([0, 1, 4, 5] if merger.survivor(None) == "top" else [0, 1, 2, 5])
    assert len(view.layers) == view.config.num_hidden_layers == 4
    if types is not None:
        assert view.config.layer_types == [types[number] for number in view.numbers]
    for position, layer in enumerate(view.layers):
        indices = {m.layer_idx for m in layer.modules() if hasattr(m, "layer_idx")}
        assert indices <= {position}

    # The cache is addressed by layer_idx and laid out by layer_types.
    prompt = ids[:2]
    ask = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    cached = view.model.generate(input_ids=prompt, use_cache=True, **ask)
    assert torch.equal(cached, view.model.generate(input_ids=prompt, use_cache=False, **ask))


@pytest.mark.parametrize(
    ("name", "keep", "expected"),
    [
        # S S F S F F: layers 2 and 3 become one.
        ("gemma3_text", "bottom", "SSFFF"),
        ("gemma3_text", "top", "SSSFF"),
        # S F S F S F
        ("gemma2", "bottom", "SFSSF"),
        ("gemma2", "top", "SFFSF"),
        # F F F S S S by max_window_layers
        ("qwen2", "bottom", "FFFSS"),
        ("qwen2", "top", "FFSSS"),
    ],
)
def test_sliding_or_full_attention_follows_the_surviving_layer(tiny, view_of, name, keep, expected) -> None:
    view = view_of(tiny(name))
    merge(view, Delete(keep), Window(2, 3))
    assert "".join(kind[0].upper() for kind in view.config.layer_types) == expected
    windows = [getattr(layer.self_attn, "sliding_window", None) for layer in view.layers]
    assert "".join("F" if window is None else "S" for window in windows) == expected


@pytest.mark.parametrize("removed", [[0], [5], [0, 1], [4, 5], [2, 3], [0, 2, 5], [1, 3, 5], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("name", ["llama", "gemma3_text", "opt"])
def test_deleting_the_windows_of_windows_without_leaves_exactly_the_other_layers(
    tiny, view_of, ids: Tensor, name: str, removed: list[int]
) -> None:
    view = view_of(tiny(name))
    kept = [i for i in range(6) if i not in removed]
    recording = view.record(ids)
    hidden = recording.states[0]
    for position in kept:
        hidden = view.run_layer(recording, position, hidden)
    expected = view.logits(hidden)
    for window in windows_without(removed, 6):
        merge(view, Delete(), window)
    assert view.numbers == kept
    torch.testing.assert_close(logits(view.model, ids), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("merger", MERGERS, ids=lambda merger: merger.name)
@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt2"])
def test_a_second_merge_uses_the_numbers_of_the_original_model(
    tiny, view_of, ids: Tensor, name: str, merger: LayerMerger
) -> None:
    view = view_of(tiny(name))
    merge(view, merger, Window(1, 2))
    first, survivor = (2, 4) if merger.survivor(None) == "top" else (1, 1)
    assert view.numbers == [0, first, 3, 4, 5]
    expected = trial_logits(view, ids, merger, [Window(1, 3)])  # positions now: first, 3 and 4
    MergeStep(f"{first},3-4", survivor, merger).apply(view, {})
    assert view.numbers == [0, survivor, 5]
    torch.testing.assert_close(logits(view.model, ids), expected, rtol=0, atol=1e-5)


def test_the_order_of_two_disjoint_merges_does_not_matter(tiny, view_of) -> None:
    one, other = view_of(tiny("llama")), view_of(tiny("llama"))
    for window in (Window(0, 1), Window(3, 5)):
        merge(one, Average(), window)
    for window in (Window(3, 5), Window(0, 1)):
        merge(other, Average(), window)
    assert one.numbers == other.numbers == [0, 2, 3]
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    ("layers", "survivor"),
    [("1-2", 1), ("1", 1), ("7-9", 7), ("3-4", 2), ("3-4", 5), ("1,4", 1)],
    ids=["merged already", "one layer", "no such layers", "survivor is gone", "survivor is outside", "not adjacent"],
)
def test_a_step_that_does_not_fit_the_layers_is_refused(llama: ModelView, layers: str, survivor: int) -> None:
    merge(llama, Delete(), Window(1, 2))
    before = llama.fingerprint()
    with pytest.raises(PlanError, match="the model has layers 0-1,3-5"):
        MergeStep(layers, survivor, Delete()).apply(llama, {})
    assert llama.fingerprint() == before


@dataclass(frozen=True)
class Wrong(LayerMerger):
    name = "wrong"

    how: str

    def merge(self, window: LayerWindow) -> State:
        state = dict(window.states[0])
        if self.how == "key":
            del state["mlp.up.weight"]
        elif self.how == "shape":
            state["mlp.up.weight"] = state["mlp.up.weight"][:-1]
        else:
            state["mlp.up.weight"] = state["mlp.up.weight"].double()
        return state


@pytest.mark.parametrize(
    ("how", "message"),
    [("key", "other parameters .*mlp.up.weight"), ("shape", r"\(63, 32\)"), ("dtype", "float64")],
)
def test_a_merger_that_returns_no_layer_is_named(llama: ModelView, how: str, message: str) -> None:
    before = llama.fingerprint()
    with pytest.raises(PlanError, match=f"merger 'wrong' returned .*{message}"):
        merge(llama, Wrong(how), Window(1, 2))
    assert llama.fingerprint() == before


def test_a_result_made_of_the_survivors_and_the_leaving_layers_tensors_is_read_before_it_is_written(
    llama: ModelView,
) -> None:
    bottom, top = llama.state(2), llama.state(3)
    crossed = dict(top, **{"attention.k.weight": bottom["attention.v.weight"]})
    crossed["attention.v.weight"] = bottom["attention.k.weight"]
    expected = {key: value.clone() for key, value in crossed.items()}
    merge_layers(llama, [2, 3], 2, crossed)
    for key, value in llama.state(2).items():
        assert torch.equal(value, expected[key]), key


def test_keeping_layers_changes_no_weight_of_theirs(llama: ModelView) -> None:
    before = copy.deepcopy([llama.state(i) for i in range(6)])
    keep_layers(llama, [1, 4])
    assert llama.numbers == [1, 4]
    for position, number in enumerate(llama.numbers):
        assert all(torch.equal(value, before[number][key]) for key, value in llama.state(position).items())
