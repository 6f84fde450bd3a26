"""DepthEngine: the numbers of really merged models, at the cost of the layers that differ."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pytest
import torch
from torch import Tensor

from swm.builtin.stages.depth import DepthStage
from swm.builtin.steps.merge import MergeStep
from swm.depth.engine import DepthEngine
from swm.depth.fitting import fit_windows, merged_state
from swm.depth.streams import seen_samples
from swm.errors import ModelError, PlanError, RecipeError
from swm.interfaces.merger import LayerMerger, LayerWindow, surviving_layer
from swm.interfaces.progress import Silent
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import Setting, StageContext, StagePlan
from swm.interfaces.target import Target
from swm.interfaces.text import Calibration
from swm.mergers.average import Average
from swm.mergers.consolidate import Consolidate
from swm.mergers.delete import Delete
from swm.mergers.least_squares import LeastSquares
from swm.model.shape import ModelShape
from swm.model.state import State
from swm.model.view import ModelView
from swm.model.windows import Window, windows_without
from swm.plan.plan import Plan, PlannedStage
from swm.plan.reading import read_plan
from swm.plugins.loading import load_plugins
from swm.similarity.cosine import Cosine
from swm.similarity.kl import KL

PAIR = [Window(1, 2), Window(3, 5)]


def context_of(view: ModelView, ids: Tensor) -> StageContext:
    shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
    return StageContext(view, Calibration(ids, {}, 0), shape, 0, Silent())


def engine_of(
    view: ModelView, ids: Tensor, merger: LayerMerger | None = None, similarity: SimilarityMetric | None = None
) -> DepthEngine:
    return DepthEngine(context_of(view, ids), similarity or Cosine(), merger or Consolidate(), None)


def really_merged(view: ModelView, merger: LayerMerger, windows: Sequence[Window]) -> ModelView:
    """A copy of the model on which surgery was done."""
    merged = ModelView(copy.deepcopy(view.model), view.family)
    for window in windows:
        survivor = surviving_layer(merger, window)
        MergeStep(str(window), survivor, merger, window.keep).apply(merged, {})
    return merged


def merged_alone(view: ModelView, ids: Tensor, window: Window, merger: LayerMerger) -> State:
    """What a merger makes of a window of the model as it is, from this text if it needs any."""
    if not merger.needs_activations:
        return merged_state(view, range(window.first, window.last + 1), merger, window.keep)
    return fit_windows(view, ids, [window], merger).states[window]


@torch.no_grad()
def test_similarity_and_loss_are_those_of_the_really_merged_model(view: ModelView, ids: Tensor) -> None:
    merged = really_merged(view, Average(), PAIR)
    ends = [v.body(input_ids=ids, use_cache=False).last_hidden_state.flatten(1).double() for v in (view, merged)]
    cosine = torch.nn.functional.cosine_similarity(*ends, dim=1).mean()
    p, q = (v.model(input_ids=ids).logits.double().log_softmax(-1) for v in (view, merged))
    kl = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1).mean()
    loss = merged.model(input_ids=ids, labels=ids).loss

    engine = engine_of(view, ids, Average())
    assert engine.trial(PAIR) == pytest.approx(float(cosine), abs=1e-6)
    assert engine.trial([]) == pytest.approx(1.0, abs=1e-6)
    assert engine.loss(PAIR) == pytest.approx(float(loss), abs=1e-5)
    assert engine.loss([]) == pytest.approx(float(view.model(input_ids=ids, labels=ids).loss), abs=1e-5)
    assert engine_of(view, ids, Average(), KL()).trial(PAIR) == pytest.approx(float((-kl).exp()), abs=1e-5)
    assert cosine < 0.999


@pytest.mark.parametrize(
    ("merger", "windows", "layers"),
    [
        (Consolidate(), [], 0),
        (Consolidate(), [Window(2, 3)], 3),  # the merged layer, 4 and 5
        (Consolidate(), [Window(4, 5)], 1),
        (Consolidate(), [Window(0, 5)], 1),
        (Consolidate(), [Window(1, 2), Window(4, 5)], 3),  # merged, 3, merged
        (Delete(), windows_without([3], 6), 2),  # 4 and 5
        (Delete(), windows_without([5], 6), 0),
        (Delete(), windows_without([0], 6), 5),
        (Delete(), windows_without([2, 4], 6), 2),  # 3 and 5
        (Delete("top"), [Window(2, 3)], 3),
    ],
)
def test_a_trial_runs_the_merged_layers_and_what_lies_above_and_only_once(
    llama: ModelView, ids: Tensor, merger: LayerMerger, windows: list[Window], layers: int
) -> None:
    engine = engine_of(llama, ids, merger)
    assert engine.layer_forwards == 0
    value = engine.trial(windows)
    assert engine.layer_forwards == 6 + layers
    with torch.no_grad():
        merged = [v.body(input_ids=ids).last_hidden_state for v in (llama, really_merged(llama, merger, windows))]
    assert value == pytest.approx(Cosine().compare(*merged), abs=1e-6)
    assert engine.trial(list(reversed(windows))) == value
    assert engine.layer_forwards == 6 + layers
    assert engine.trials == 1


def test_committed_windows_are_not_run_again_and_change_no_result(llama: ModelView, ids: Tensor) -> None:
    cold, warm = engine_of(llama, ids), engine_of(llama, ids)
    cold.commit([])
    warm.commit([Window(0, 1)])
    assert warm.layer_forwards == 6 + 5
    grown = [Window(0, 1), Window(3, 4)]
    for windows, cold_layers, warm_layers in [(grown, 4, 2), ([Window(0, 1)], 5, 0), ([Window(3, 4)], 2, 5)]:
        counts = cold.layer_forwards, warm.layer_forwards
        assert warm.trial(windows) == pytest.approx(cold.trial(windows), abs=1e-9)
        assert (cold.layer_forwards - counts[0], warm.layer_forwards - counts[1]) == (cold_layers, warm_layers)
    warm.commit(grown)
    assert warm.loss(grown) == pytest.approx(cold.loss(grown), abs=1e-9)


@pytest.mark.parametrize("similarity", [Cosine(), Cosine("each"), KL()], ids=["flattened", "each", "kl"])
def test_results_do_not_depend_on_how_samples_are_batched(
    llama: ModelView, ids: Tensor, similarity: SimilarityMetric, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = engine_of(llama, ids, similarity=similarity)
    expected = together.trial(PAIR), together.loss(PAIR)
    monkeypatch.setattr("swm.model.samples.TOKENS_PER_BATCH", 2 * ids.shape[1])
    monkeypatch.setattr("swm.model.token_scores.SCORE_BYTES", 1)
    apart = engine_of(llama, ids, similarity=similarity)
    assert (apart.trial(PAIR), apart.loss(PAIR)) == pytest.approx(expected, abs=1e-6)
    assert apart.layer_forwards == together.layer_forwards


@pytest.mark.parametrize("similarity", [Cosine(), Cosine("each")], ids=["flattened", "each"])
def test_a_trial_above_a_threshold_stops_where_the_rest_cannot_lift_it(
    llama: ModelView, ids: Tensor, similarity: SimilarityMetric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swm.model.samples.TOKENS_PER_BATCH", ids.shape[1])
    exact = engine_of(llama, ids, similarity=similarity).trial(PAIR)
    for above in (exact - 0.1, exact - 1e-5, exact + 1e-5, (1 + exact) / 2, 1.0):
        engine = engine_of(llama, ids, similarity=similarity)
        found = engine.trial(PAIR, above)
        assert (found > above) == (exact > above)
        if found > above:
            assert found == pytest.approx(exact, abs=1e-6)
        else:
            assert exact - 1e-6 <= found <= above
        counts = engine.layer_forwards, engine.trials
        assert engine.trial(PAIR, above) == found
        assert (engine.layer_forwards, engine.trials) == counts
        assert engine.trial(PAIR) == pytest.approx(exact, abs=1e-6), "a bound is not taken for the similarity"
    # Nothing is above 1.0, and the first of five samples tells.
    first = engine_of(llama, ids, similarity=similarity)
    first.trial([Window(0, 1)], 1.0)
    assert first.layer_forwards == 6 + 5 / 5


@final
@dataclass(frozen=True)
class Burst(LayerMerger):
    """The bottom layer with an MLP that gives infinities."""

    name = "burst"

    def merge(self, window: LayerWindow) -> State:
        state = dict(window.states[0])
        return {**state, "mlp.down.weight": torch.full_like(state["mlp.down.weight"], math.inf)}


def test_windows_that_leave_no_numbers_are_no_plan(llama: ModelView, ids: Tensor) -> None:
    plugins = load_plugins()
    plugins.registry.register(Burst, "this test")
    settings = {"name": "depth", "pruner": "last", "merger": "burst", "target": {"layers": 1}}
    with pytest.raises(ModelError, match=r"with the windows 3-4 merged by 'burst', there are .* another merger"):
        plugins.registry.build("stage", settings).plan(context_of(llama, ids))  # type: ignore[attr-defined]


def test_a_merged_model_that_overflows_is_not_a_number_and_counted(llama: ModelView, ids: Tensor) -> None:
    engine = engine_of(llama, ids, Burst())
    assert math.isnan(engine.trial([Window(1, 2)]))
    assert math.isnan(engine.trial([Window(1, 2)]))
    assert (engine.trials, engine.nan_trials) == (1, 1)


@pytest.mark.parametrize("pruner", ["sliding-window", "laco", "greedy-loss", "contiguous", "block-influence"])
def test_planning_changes_no_bit_of_the_model(llama: ModelView, ids: Tensor, plugins, pruner: str) -> None:
    before = llama.fingerprint(), llama.config.to_dict(), list(llama.layers)
    stage = plugins.registry.build("stage", {"name": "depth", "pruner": pruner, "target": {"layers": 2}})
    planned = stage.plan(context_of(llama, ids))
    assert planned.facts["removed_layers"] == 2
    assert (llama.fingerprint(), llama.config.to_dict(), list(llama.layers)) == before
    assert llama.numbers == list(range(6))


@final
@dataclass(frozen=True)
class Stretch(LayerMerger):
    """The bottom layer with its MLP scaled by how much longer hidden states are when they leave the window."""

    name = "stretch"
    needs_activations = True

    def merge(self, window: LayerWindow) -> State:
        assert window.entering is not None
        assert window.leaving is not None
        state = dict(window.states[0])
        state["mlp.down.weight"] = state["mlp.down.weight"] * (window.leaving().norm() / window.entering().norm())
        return state


def test_a_merger_sees_what_enters_the_merged_model_and_leaves_the_original_one(llama: ModelView, ids: Tensor) -> None:
    recording = llama.record(ids)
    down = {i: llama.state(i)["mlp.down.weight"] for i in range(6)}
    low = down[1] * (recording.states[3].norm() / recording.states[1].norm())
    hidden = llama.run_layer(recording, 1, recording.states[1], dict(llama.state(1), **{"mlp.down.weight": low}))
    high = down[3] * (recording.states[6].norm() / hidden.norm())

    engine = engine_of(llama, ids, Stretch())
    engine.trial([Window(3, 5)])
    fitted, similarity = engine.fitted(PAIR)
    torch.testing.assert_close(fitted[PAIR[0]]["mlp.down.weight"], low)
    torch.testing.assert_close(fitted[PAIR[1]]["mlp.down.weight"], high)
    end = llama.run_layer(recording, 3, hidden, dict(llama.state(3), **{"mlp.down.weight": high}))
    assert similarity == pytest.approx(Cosine().compare(llama.tail(recording.states[6]), llama.tail(end)), abs=1e-6)
    for state in (*fitted.values(), engine.fitted(PAIR[:1])[0][PAIR[0]]):
        model_memory = {p.data_ptr() for p in llama.model.parameters()}
        assert not model_memory & {value.data_ptr() for value in state.values()}


def test_fitted_tensors_survive_the_plan_file_to_the_same_bytes(tiny, view_of, ids: Tensor, tmp_path: Path) -> None:
    plugins = load_plugins()
    plugins.registry.register(Stretch, "this test")
    settings = {"pruner": "last", "merger": "stretch", "target": {"layers": 1}}
    stage = plugins.registry.build("stage", {"name": "depth", **settings})
    assert isinstance(stage, DepthStage)
    assert stage.target == Target(layers=1)
    view = view_of(tiny("llama"))
    context = context_of(view, ids)
    context.reference = view.record(ids).states[-1]
    planned = []
    # The second stage merges into the layer that the first one made, whose tensors the plan must not lose.
    for _ in range(2):
        plan = stage.plan(context)
        planned.append(PlannedStage("depth", settings, plan.steps, plan.facts, plan.tensors))
        planned[-1].apply(view)
    assert view.numbers == [0, 1, 2, 5]
    ends = view.tail(context.reference), view.tail(view.record(ids).states[-1])
    assert planned[-1].facts["similarity"] == pytest.approx(Cosine().compare(*ends), abs=1e-6)

    file = tmp_path / "plan.yaml"
    original = {"source": "tiny", "fingerprint": "", "model_type": "llama", "dtype": "float32", "layers": 6}
    Plan({**original, "parameters": context.original.parameters}, planned, {}, 0).write(file)
    assert file.with_suffix(".fitted.safetensors").is_file()
    again = read_plan(file, plugins.registry)
    fresh = view_of(tiny("llama"))
    for replayed in again.stages:
        replayed.apply(fresh)
    assert fresh.numbers == view.numbers
    assert fresh.fingerprint() == view.fingerprint()

    file.with_suffix(".fitted.safetensors").unlink()
    with pytest.raises(PlanError, match=r"'stretch' of layers 3-4 needs the tensors .* \.safetensors file"):
        read_plan(file, plugins.registry).stages[0].apply(view_of(tiny("llama")))


def test_tensors_left_beside_a_plan_that_needs_none_are_not_used(llama: ModelView, tiny, view_of) -> None:
    stale = {key: torch.zeros_like(value) for key, value in llama.state(1).items()}
    MergeStep("1-2", 1, Average()).apply(llama, stale)
    expected = view_of(tiny("llama"))
    MergeStep("1-2", 1, Average()).apply(expected, {})
    assert llama.fingerprint() == expected.fingerprint()


def test_a_fitted_merger_is_judged_on_text_that_it_has_not_seen(llama: ModelView, tiny) -> None:
    ids = torch.randint(3, 96, (9, 12), generator=torch.Generator().manual_seed(8))
    seen: list[int] = []

    class Watching(Stretch):
        def merge(self, window: LayerWindow) -> State:
            assert window.entering is not None
            seen.append(len(window.entering()))
            return super().merge(window)

    engine = DepthEngine(context_of(llama, ids), Cosine(), Watching(), None, samples=8)
    loss, similarity = engine.loss([Window(1, 2)]), engine.trial([Window(1, 2)])
    assert seen == [6]
    recording = llama.record(ids)
    first = llama.state(1)
    stretched = recording.states[3][:6].norm() / recording.states[1][:6].norm()
    state = dict(first, **{"mlp.down.weight": first["mlp.down.weight"] * stretched})
    rest = llama.record(ids[6:8])
    hidden = llama.run_layer(rest, 1, rest.states[1], state)
    for layer in (3, 4, 5):
        hidden = llama.run_layer(rest, layer, hidden)
    logits = llama.logits(hidden)[:, :-1]
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[6:8, 1:].flatten())
    assert loss == pytest.approx(float(expected), abs=1e-5)
    assert similarity == pytest.approx(Cosine().compare(llama.tail(rest.states[-1]), llama.tail(hidden)), abs=1e-6)
    engine.fitted([Window(1, 2)])
    assert seen == [6, 9]


def test_a_search_on_some_samples_is_that_of_a_text_with_no_others(llama: ModelView) -> None:
    ids = torch.randint(3, 96, (9, 12), generator=torch.Generator().manual_seed(8))
    for merger in (Consolidate(), Stretch()):
        some = DepthEngine(context_of(llama, ids), Cosine(), merger, None, samples=4)
        only = engine_of(llama, ids[:4], merger)
        assert some.trial(PAIR) == only.trial(PAIR)
        assert some.compare(1, 3) == only.compare(1, 3)


def test_more_samples_than_there_are_cannot_be_searched(llama: ModelView, ids: Tensor) -> None:
    settings = {"name": "depth", "pruner": "last", "target": {"layers": 1}, "search_samples": 6}
    stage = load_plugins().registry.build("stage", settings)
    shape = context_of(llama, ids).original
    with pytest.raises(RecipeError, match=r"search_samples: found 6; the calibration text has 5 samples"):
        stage.check(Setting(shape, llama.family, llama.config, 5, 12))


@pytest.mark.parametrize("before", [Consolidate(), Stretch()], ids=["consolidate", "stretch"])
@pytest.mark.parametrize("after", [Consolidate(), Average(), Stretch()], ids=["consolidate", "average", "stretch"])
def test_an_engine_that_uses_another_merger_is_a_new_one(
    llama: ModelView, before: LayerMerger, after: LayerMerger
) -> None:
    ids = torch.randint(3, 96, (9, 12), generator=torch.Generator().manual_seed(8))
    used, fresh = (DepthEngine(context_of(llama, ids), Cosine(), m, None, samples=8) for m in (before, after))
    used.trial(PAIR)
    used.loss(PAIR)
    used.commit(PAIR)
    used.use(after)
    assert used.trial(PAIR) == fresh.trial(PAIR)
    assert used.loss(PAIR) == fresh.loss(PAIR)
    if used.merger == before:
        fresh.commit(PAIR)
    assert used.compare(1, 3) == fresh.compare(1, 3)


def test_the_search_may_use_another_merger_than_the_result(llama: ModelView) -> None:
    ids = torch.randint(3, 96, (9, 12), generator=torch.Generator().manual_seed(8))

    def plan(**settings: Any) -> StagePlan:
        stage = {"name": "depth", "pruner": "best-windows", "target": {"layers": 2}, "search_samples": 4, **settings}
        found: StagePlan = load_plugins().registry.build("stage", stage).plan(context_of(llama, ids))
        return found

    both = plan(merger="least-squares", search_merger="average")
    searched = plan(merger="average")
    assert [step.layers for step in both.steps] == [step.layers for step in searched.steps]
    assert both.facts["costs"] == searched.facts["costs"]
    assert {step.merger.name for step in both.steps} == {"least-squares"}
    assert len(both.tensors) == len(both.steps)
    assert not searched.tensors


@pytest.mark.parametrize("merger", [Consolidate(), Stretch()], ids=["consolidate", "stretch"])
def test_what_a_window_changes_in_its_place_costs_a_layer(llama: ModelView, ids: Tensor, merger: LayerMerger) -> None:
    engine = engine_of(llama, ids, merger)
    top = Window(len(llama.layers) - 2, len(llama.layers) - 1)
    # At the top of the model its place is the end.
    assert engine.local(top) == pytest.approx(engine.trial([top]), abs=1e-6)
    inner = Window(1, 2)
    before = engine.layer_forwards
    found = engine.local(inner)
    assert engine.layer_forwards - before == (3 if merger.needs_activations else 1)
    assert engine.local(inner) == found
    seen = seen_samples(len(ids)) if merger.needs_activations else 0
    recording = llama.record(ids[seen:])
    states = recording.states
    state = merged_alone(llama, ids[:seen], inner, merger)
    merged = llama.run_layer(recording, 1, states[1], state)
    assert found == pytest.approx(Cosine().compare(llama.tail(states[3]), llama.tail(merged)), abs=1e-6)


def test_what_a_window_changes_is_told_on_top_of_what_was_committed(llama: ModelView, ids: Tensor) -> None:
    engine = engine_of(llama, ids)
    plain = engine.local(Window(3, 4))
    engine.commit([Window(0, 1)])
    committed = engine.local(Window(3, 4))
    assert committed != plain
    engine.commit([])
    assert engine.local(Window(3, 4)) == plain
    kl = load_plugins().registry.build("similarity", "kl")
    assert math.isnan(DepthEngine(context_of(llama, ids), kl, Consolidate(), None).local(Window(3, 4)))


@pytest.mark.parametrize("merger", [Delete(), Delete("top"), Consolidate(), Average()], ids=lambda m: str(m.spec()))
def test_what_a_window_changes_above_several_committed_ones_is_that_of_the_really_merged_model(
    llama: ModelView, ids: Tensor, merger: LayerMerger
) -> None:
    engine = engine_of(llama, ids, merger)
    committed: list[Window] = []
    # From the bottom up, from the top down, and between others.
    for window in (Window(0, 1), Window(2, 3, "top"), Window(4, 5, "bottom")):
        committed = [*committed, window]
        engine.commit(committed)
        for tried in (Window(2, 3), Window(2, 3, "bottom"), Window(2, 3, "top"), Window(4, 5), Window(4, 5, "top")):
            if all(tried.first > other.last or tried.last < other.first for other in committed):
                assert engine.local(tried) == pytest.approx(local_truth(llama, ids, merger, committed, tried), abs=1e-6)
    engine.commit([Window(4, 5), Window(0, 1)])
    truth = local_truth(llama, ids, merger, [Window(0, 1), Window(4, 5)], Window(2, 3, "top"))
    assert engine.local(Window(2, 3, "top")) == pytest.approx(truth, abs=1e-6)


def local_truth(
    view: ModelView, ids: Tensor, merger: LayerMerger, committed: Sequence[Window], window: Window
) -> float:
    """What leaves a window of the really merged model, with it as it is and merged as well, in cosines."""
    before = really_merged(view, merger, committed)
    after = really_merged(view, merger, [*committed, window])
    below = window.first - sum(other.removed for other in committed if other.last < window.first)
    leaving = before.record(ids).states[below + window.removed + 1]
    return Cosine().compare(view.tail(leaving), view.tail(after.record(ids).states[below + 1]))


def test_two_deletions_of_one_layer_change_different_places(llama: ModelView, ids: Tensor) -> None:
    engine = engine_of(llama, ids, Delete())
    below, above = Window(2, 3, "bottom"), Window(3, 4, "top")
    assert engine.local(below) == pytest.approx(local_truth(llama, ids, Delete(), [], below), abs=1e-6)
    assert engine.local(above) == pytest.approx(local_truth(llama, ids, Delete(), [], above), abs=1e-6)


@pytest.mark.parametrize("merger", [Delete(), LeastSquares()])
def test_hidden_states_come_batch_by_batch_and_may_be_written_to(
    llama: ModelView, ids: Tensor, merger: LayerMerger
) -> None:
    recorded = llama.record(ids).states
    engine = engine_of(llama, ids, merger)
    for layer in range(engine.layers + 1):
        batches = list(engine.hidden(layer))
        torch.testing.assert_close(torch.cat(batches), recorded[layer])
        batches[0].zero_()
    assert torch.equal(torch.cat(list(engine.hidden(3))), torch.cat(list(engine.hidden(3))))
    assert engine.layer_forwards == engine.layers


def test_hidden_states_are_those_of_what_was_committed(llama: ModelView, ids: Tensor) -> None:
    engine = engine_of(llama, ids, Delete())
    engine.commit([Window(1, 2)])
    merged = really_merged(llama, Delete(), [Window(1, 2)])
    torch.testing.assert_close(torch.cat(list(engine.hidden(engine.layers - 1))), merged.record(ids).states[-1])
