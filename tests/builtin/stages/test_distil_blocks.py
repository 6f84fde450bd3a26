"""distil-blocks: layers are trained alone to give what the original model has; the result replays from the plan."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.builtin.stages import block_training
from swm.builtin.stages.block_training import BlockTraining
from swm.builtin.stages.distil_blocks import DistilBlocksStage
from swm.builtin.steps.fit_layer import FitLayerStep
from swm.errors import PlanError, RecipeError
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext, StagePlan
from swm.interfaces.text import Calibration
from swm.model.blocks import RemovedModule
from swm.model.samples import Samples
from swm.model.shape import ModelShape
from swm.model.surgery import keep_layers, merge_layers, remove_modules
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.plan.plan import Plan, PlannedStage
from swm.plan.reading import read_plan
from swm.plugins.loading import load_plugins
from swm.training import token_sample
from swm.training.layer_training import LayerTraining


@pytest.fixture
def many() -> Tensor:
    """Token ids `[40, 12]`."""
    return torch.randint(3, 96, (40, 12), generator=torch.Generator().manual_seed(5))


def context(view: ModelView, dense: ModelView, ids: Tensor) -> StageContext:
    shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
    made = StageContext(view, Calibration(ids, {}, 0), shape, 0, Silent())
    made.dense = lambda: ModelView(copy.deepcopy(dense.model), dense.family)
    return made


def shallower(view: ModelView) -> ModelView:
    """A copy whose layer 1 stands for layers 1 and 2."""
    cut = ModelView(copy.deepcopy(view.model), view.family)
    merge_layers(cut, [1, 2], 1, cut.state(1))
    return cut


def planned(stage: DistilBlocksStage, view: ModelView, dense: ModelView, ids: Tensor) -> StagePlan:
    return stage.plan(context(view, dense, ids))


def distance(view: ModelView, dense: ModelView, ids: Tensor) -> float:
    ends = [v.record(ids).states[-1] for v in (view, dense)]
    return float((ends[0] - ends[1]).norm() / ends[1].norm())


def layers_of(plan: StagePlan) -> list[int]:
    return [step.layer for step in plan.steps if isinstance(step, FitLayerStep)]


FAST = DistilBlocksStage(epochs=12, learning_rate=2e-3)


def test_every_family_comes_nearer_to_the_original_on_fresh_text(any_model: Any, view_of: Any, many: Tensor) -> None:
    dense = view_of(any_model)
    cut = shallower(dense)
    fresh = torch.randint(3, 96, (20, 12), generator=torch.Generator().manual_seed(11))
    before = distance(cut, dense, fresh)
    plan = planned(FAST, cut, dense, many)
    FAST.perform(plan, context(cut, dense, many))
    assert plan.steps
    assert distance(cut, dense, fresh) < before


def test_what_is_left_of_a_layer_is_trained_too(llama: ModelView, many: Tensor) -> None:
    cut = ModelView(copy.deepcopy(llama.model), llama.family)
    remove_modules(cut, 2, {"self_attn": RemovedModule(returns=2)})
    fresh = torch.randint(3, 96, (20, 12), generator=torch.Generator().manual_seed(11))
    before = distance(cut, llama, fresh)
    plan = planned(FAST, cut, llama, many)
    assert layers_of(plan)[0] == 2
    FAST.perform(plan, context(cut, llama, many))
    assert distance(cut, llama, fresh) < before


def test_every_family_can_multiply_in_bfloat16(any_model: Any, view_of: Any, many: Tensor) -> None:
    dense = view_of(any_model)
    cut = shallower(dense)
    stage = replace(FAST, mixed_precision="bf16", layers="all", epochs=1)
    training = BlockTraining(cut, dense, Samples.of(many), stage.training(0, True), None, 8)
    with Silent().task("", len(cut.layers)) as task:
        training.run(task, "all", 1)
    assert training.hidden.dtype is training.wanted[torch.arange(40)].dtype is torch.float32
    with torch.no_grad():
        exact = dense.record(many).states[-1]
    apart = (training.wanted[torch.arange(40)] - exact).norm() / exact.norm()
    assert 0 < apart < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_large_vocabulary_is_sampled_and_the_plan_says_so(
    llama: ModelView, many: Tensor, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_sample, "FEWEST_OTHERS", 20)
    llama.model.to(dtype)
    ids = many % 20 + 3
    cut = shallower(llama)
    stage = replace(FAST, mixed_precision="bf16", span=2)
    plan = planned(stage, cut, llama, ids)
    assert plan.facts["sampled_tokens"] == 40
    assert layers_of(plan)
    before = distance(cut, llama, ids)
    stage.perform(plan, context(cut, llama, ids))
    assert distance(cut, llama, ids) < before
    assert "sampled_tokens" not in planned(replace(FAST, epochs=1), shallower(llama), llama, many).facts


def test_planning_changes_nothing_and_an_unchanged_model_needs_no_step(llama: ModelView, many: Tensor) -> None:
    cut = shallower(llama)
    before = {name: p.clone() for name, p in cut.model.named_parameters()}
    assert planned(FAST, cut, llama, many).steps
    assert all(torch.equal(p, before[name]) for name, p in cut.model.named_parameters())
    assert not planned(FAST, llama, llama, many).steps


def test_layers_above_the_lowest_change_are_trained_only_if_asked(llama: ModelView, many: Tensor) -> None:
    cut = shallower(llama)
    only = DistilBlocksStage(epochs=12, learning_rate=2e-3, layers="changed")
    assert layers_of(planned(only, cut, llama, many)) == [1]
    above = layers_of(planned(FAST, cut, llama, many))
    assert set(above) >= {1}
    assert set(above) <= {number for number in cut.numbers if number >= 1}


def test_all_layers_are_trained_where_they_end_behind_a_change(llama: ModelView, many: Tensor) -> None:
    cut = shallower(llama)
    alone = planned(DistilBlocksStage(layers="all"), cut, llama, many)
    assert alone.facts["trained_layers"][0]["layers"] == "1"
    together = planned(replace(FAST, layers="all", span=6), cut, llama, many)
    assert [row["layers"] for row in together.facts["trained_layers"]] == ["0-1,3-5"]
    assert layers_of(together) == [0, 1, 3, 4, 5]


def test_a_layer_that_lost_units_counts_as_changed(llama: ModelView, many: Tensor) -> None:
    cut = ModelView(copy.deepcopy(llama.model), llama.family)
    keep_units(cut, 2, "mlp", list(range(32)))
    only = DistilBlocksStage(epochs=6, layers="changed")
    assert layers_of(planned(only, cut, llama, many)) == [2]


def test_each_layer_is_fitted_to_where_the_original_is(llama: ModelView, many: Tensor) -> None:
    cut = shallower(llama)
    plan = planned(FAST, cut, llama, many)
    for row in plan.facts["trained_layers"]:
        assert row["error_left"] <= row["error_before"]
    first = plan.facts["trained_layers"][0]
    assert first["layers"] == "1"
    assert first["steps"] == FAST.epochs * ((len(many) - len(many[::16])) // FAST.batch)
    # By hand: the relative squared error of layer 1's output on the samples that were left out, before.
    held = many[::16]
    recording = llama.record(held)
    output = cut.run_layer(cut.record(held), 1, recording.states[1])
    wanted = recording.states[3]
    error = ((output - wanted).square().sum(-1) / wanted.square().sum(-1)).mean()
    assert first["error_before"] == pytest.approx(float(error), rel=1e-3)


@pytest.mark.parametrize(("span", "own"), [(6, []), (2, [1, 2])])
def test_no_layer_is_run_behind_the_last_block(
    span: int, own: list[int], llama: ModelView, many: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = shallower(llama)
    ran: list[int] = []
    run_layer = ModelView.run_layer

    def counted(self: ModelView, recording: Any, position: int, *rest: Any) -> Tensor:
        ran.extend([position] if self is cut else [])
        return run_layer(self, recording, position, *rest)

    monkeypatch.setattr(ModelView, "run_layer", counted)
    samples = samples_of_the_original(monkeypatch, cut)
    planned(replace(FAST, epochs=1, span=span), cut, llama, many)
    assert ran == own
    # One of 37 fits in no batch of four, and nobody asks where it should end.
    assert set(samples.values()) <= {39, 40}


def samples_of_the_original(monkeypatch: pytest.MonkeyPatch, cut: ModelView) -> dict[int, int]:
    """How many samples each layer of the original model is run on from now on; `cut` is the other model."""
    counts: dict[int, int] = {}
    run_batch = ModelView.run_batch

    def counted(self: ModelView, recording: Any, batch: int, position: int, hidden: Tensor, *rest: Any) -> Tensor:
        if self is not cut:
            counts[position] = counts.get(position, 0) + len(hidden)
        return run_batch(self, recording, batch, position, hidden, *rest)

    monkeypatch.setattr(ModelView, "run_batch", counted)
    return counts


def test_the_original_is_run_for_what_training_looks_at_and_once_in_a_run(
    llama: ModelView, many: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, whole = shallower(llama), replace(FAST, span=6, layers="all", epochs=1, batch=4)
    plain = planned(whole, cut, llama, many)
    counts = samples_of_the_original(monkeypatch, cut)
    # One step, and what was left out.
    monkeypatch.setattr(LayerTraining, "_batches", lambda *_: iter([torch.arange(1, 5)]))
    together = context(cut, llama, many)
    whole.plan(together)
    assert set(counts.values()) == {4 + 3}
    monkeypatch.undo()
    counts = samples_of_the_original(monkeypatch, cut)
    again = whole.plan(together)
    # Of 37 samples one fits in no batch of four.
    assert set(counts.values()) == {39 - 7}
    for i, tensors in plain.tensors.items():
        assert all(torch.allclose(value, again.tensors[i][key], atol=1e-6) for key, value in tensors.items())
    counts.clear()
    whole.plan(together)
    assert counts == {}
    # Another text is run anew.
    other = replace(together, calibration=Calibration(many.flip(0), {}, 0))
    whole.plan(other)
    assert set(counts.values()) == {39}


def test_adjacent_layers_are_trained_together_where_asked(llama: ModelView, many: Tensor) -> None:
    cut = shallower(llama)
    together = replace(FAST, span=2)
    plan = planned(together, cut, llama, many)
    assert [row["layers"] for row in plan.facts["trained_layers"]] == ["1,3", "4-5"]
    fresh = torch.randint(3, 96, (20, 12), generator=torch.Generator().manual_seed(11))
    before = distance(cut, llama, fresh)
    together.perform(plan, context(cut, llama, many))
    assert distance(cut, llama, fresh) < before


def test_states_inside_of_a_block_come_nearer_where_they_count(llama: ModelView, many: Tensor) -> None:
    fresh = torch.randint(3, 96, (20, 12), generator=torch.Generator().manual_seed(11))
    wanted = llama.record(fresh).states[1:]

    def apart(weight: float) -> float:
        cut = shallower(llama)
        stage = replace(FAST, layers="all", span=9, inner_weight=weight)
        stage.perform(planned(stage, cut, llama, many), context(cut, llama, many))
        given = cut.record(fresh).states[1:-1]
        ends = [wanted[end] for end in cut.ends[:-1]]
        return sum(float((a - b).norm() / b.norm()) for a, b in zip(given, ends, strict=True))

    assert apart(10.0) < 0.9 * apart(0.0)


def test_inner_states_are_those_of_the_original_whatever_ran_before(llama: ModelView, many: Tensor) -> None:
    wanted, shared = llama.record(many).states[1:], dict[str, Any]()
    # The second looks at places that the first, whose last block begins higher, did not pass for its samples.
    for span in (2, 9):
        cut = shallower(llama)
        how = DistilBlocksStage(epochs=1, batch=5, learning_rate=1e-9).training(0, False)
        training = BlockTraining(cut, llama, Samples.of(many), how, None, 8, shared, inner_weight=1.0)
        with Silent().task("", len(cut.layers)) as task:
            training.run(task, "all", span)
        assert training.inner is not None
        assert sorted(training.inner.states) == sorted(training.inner.places) == [0, 1, 2, 3, 4]
        for layer, states in training.inner.states.items():
            assert torch.allclose(states.float(), wanted[layer], rtol=2**-7, atol=1e-3)


def test_the_same_twice_and_another_seed_is_another_model(llama: ModelView, many: Tensor) -> None:
    cut = shallower(llama)
    one, two = (planned(FAST, cut, llama, many) for _ in range(2))
    assert one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(v, two.tensors[i][k]) for i, by in one.tensors.items() for k, v in by.items())
    seeded = context(cut, llama, many)
    seeded.seed = 7
    other = FAST.plan(seeded)
    assert any(not torch.equal(v, other.tensors[0][k]) for k, v in one.tensors[0].items())


def test_its_seconds_are_kept(llama: ModelView, many: Tensor) -> None:
    cut = shallower(llama)
    stage = DistilBlocksStage(seconds=0.6, epochs=10**6, learning_rate=1e-3)
    start = time.perf_counter()
    assert planned(stage, cut, llama, many).steps
    assert time.perf_counter() - start < 10


def test_rounds_share_its_seconds_or_its_epochs() -> None:
    assert DistilBlocksStage(seconds=6.0).in_rounds(3) == [DistilBlocksStage(seconds=2.0)] * 3
    assert DistilBlocksStage(seconds=6.0, epochs=1).in_rounds(2) == [DistilBlocksStage(seconds=3.0, epochs=1)] * 2
    assert DistilBlocksStage(epochs=6).in_rounds(2) == [DistilBlocksStage(epochs=3)] * 2
    assert [part.epochs for part in DistilBlocksStage(epochs=5).in_rounds(3)] == [1, 2, 2]
    with pytest.raises(RecipeError, match="found 3; they are split among 4 rounds, so say more, or seconds") as caught:
        DistilBlocksStage().in_rounds(4)
    assert caught.value.path == ("epochs",)


def test_layers_below_the_first_change_are_run_once(llama: ModelView, many: Tensor) -> None:
    cut = ModelView(copy.deepcopy(llama.model), llama.family)
    keep_layers(cut, list(range(len(llama.layers) - 1)))
    merge_layers(cut, [1, 2], 1, cut.state(1))
    runs: list[int] = []
    run_layer = cut.run_layer
    cut.run_layer = lambda recording, position, *rest: (  # type: ignore[method-assign]
        runs.append(position) or run_layer(recording, position, *rest)  # type: ignore[func-returns-value]
    )
    planned(FAST, cut, llama, many)
    assert 0 not in runs


def test_a_layer_that_gets_no_better_on_samples_left_out_stays(
    llama: ModelView, many: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([1.0, 2.0] * 10)
    monkeypatch.setattr(block_training.BlockTraining, "_error", lambda *_: next(errors))
    plan = planned(FAST, shallower(llama), llama, many)
    assert not plan.steps
    assert all(row["error_left"] == row["error_before"] for row in plan.facts["trained_layers"])


def test_the_plan_gives_the_same_model_again(llama: ModelView, many: Tensor, tmp_path: Path) -> None:
    cut, again = shallower(llama), shallower(llama)
    plan = planned(FAST, cut, llama, many)
    FAST.perform(plan, context(cut, llama, many))
    model = {"source": "x", "fingerprint": "y", "model_type": "llama", "dtype": "float32", "layers": 5, "parameters": 1}
    file = tmp_path / "plan.yaml"
    stage = PlannedStage("distil-blocks", FAST.spec(), plan.steps, plan.facts, plan.tensors)
    Plan(model, [stage], {}, 0).write(file)
    for written in read_plan(file, load_plugins().registry).stages:
        written.apply(again)
    pairs = zip(cut.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_steps_that_do_not_fit_are_refused(llama: ModelView) -> None:
    with pytest.raises(PlanError, match="step fits layer 9; the model has layers 0-"):
        FitLayerStep(9).apply(llama, {})
    with pytest.raises(PlanError, match=r"fitted for layer 1 are missing; keep the \.safetensors file"):
        FitLayerStep(1).apply(llama, {})
    with pytest.raises(PlanError, match=r"layer 1: mlp\.down\.weight fitted as \(2, 2\)"):
        FitLayerStep(1).apply(llama, {"mlp.down.weight": torch.ones(2, 2)})
