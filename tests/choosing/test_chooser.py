"""What is chosen on a machine of a given pace, how a run keeps to its minutes, and what it leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import swm
from swm.choosing import chooser as chooser_module
from swm.choosing.candidate import CandidateList, read_candidates
from swm.choosing.chooser import Chooser
from swm.choosing.clock import Besides, Clock, evaluated_tokens
from swm.choosing.wanted import Wanted
from swm.errors import BudgetError, RecipeError, SwmError, TextError
from swm.files import yaml_file as yamlfile
from swm.run.estimates import Pace
from swm.testing import tiny_tokenizer

# That of the machine of the rows, and models of which these are shares.
SLOW = Pace(token=0.0007, scores=0.0003, product=1e-11)
FAST = Pace(*(value / 1e6 for value in (SLOW.token, SLOW.scores, SLOW.product)))
TEXT = ["once upon a time there was a model of many layers, and it was read by few. " * 40] * 12


@pytest.fixture(scope="module")
def folder(tiny: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Callable[[Pace], None]:
    """Makes the machine as fast as is said."""
    return lambda pace: monkeypatch.setattr("swm.choosing.subject.measured_pace", lambda view, ids: pace)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> CandidateList:
    """The recipes of swm, fitted to and trained on very little text."""
    made = read_candidates()
    recipes = []
    for one in made.recipes:
        settings = [replace(setting, samples=min(setting.samples, 16)) for setting in one.settings]
        then = [{"recover": {**stage["recover"], "steps": 2}} for stage in one.then]
        recipes.append(replace(one, settings=settings, then=then))
    little = replace(made, recipes=recipes, least_samples=16)
    monkeypatch.setattr(chooser_module, "read_candidates", lambda: little)
    return little


def choice(folder: Path, **wanted: Any) -> swm.Choice:
    return swm.choose_recipe(str(folder), **{"calibration": TEXT, **wanted})


def stage_names(recipe: swm.Recipe) -> list[str]:
    return [stage.name for stage in recipe.stages]


def said(why: Sequence[str], start: str) -> str:
    return next(line for line in why if line.startswith(start))


def test_a_fast_machine_gets_the_best_that_was_measured(folder: Path, pace: Callable[[Pace], None]) -> None:
    pace(FAST)
    made = choice(folder, layers=1, minutes=20)
    assert stage_names(made.recipe) == ["depth", "recover"]
    assert made.recipe.stages[0].target.layers == 1
    assert made.recipe.calibration.samples == 384
    assert "times the perplexity of the original" in said(made.why, "measured: ")
    assert made.seconds <= 20 * 60


def test_fewer_minutes_get_what_fits_and_say_what_was_left_out(folder: Path, pace: Callable[[Pace], None]) -> None:
    pace(SLOW)
    untrained = choice(folder, layers=1, minutes=20, recovery=False)
    assert stage_names(untrained.recipe) == ["depth", "distil-blocks"]
    assert said(untrained.why, "left out: the training after ").endswith(": no recovery was asked for")
    short = choice(folder, layers=1, minutes=0.4)
    assert short.recipe.calibration.samples < 384
    assert said(short.why, "left out: ")
    assert sum("cannot be told a number of layers" in line for line in short.why) == 1
    assert "tokens fit into a twentieth of the time, and 1024 are the fewest" in short.why[-1]
    assert short.recipe.evaluate.perplexity is None
    assert not any("perplexity before" in line for line in untrained.why)
    assert not any("the training after" in line for line in short.why)
    assert short.seconds <= 24


@pytest.mark.parametrize("wanted", [{"layers": 2}, {"ratio": 0.3}])
def test_a_recipe_without_training_is_not_expected_to_be_worth_a_training(
    folder: Path, wanted: dict[str, Any], pace: Callable[[Pace], None]
) -> None:
    pace(FAST)
    chooser = Chooser(str(folder), Wanted(minutes=20, **wanted), TEXT)
    offers = chooser._offers()
    _, measured = chooser._best(offers, FAST, Besides(0, 0, 0))
    untrained_ones = [one.draft for one in measured if one.draft.timed and not one.draft.training]
    both = [draft.candidate.name for draft in untrained_ones if draft.candidate.then]
    assert both
    for name in both:
        trained, untrained = (
            next(one for one in measured if one.draft.candidate.name == name and one.draft.training is training)
            for training in (True, False)
        )
        assert trained.expectation.log_times < untrained.expectation.log_times
        assert "then tuned distillation" not in untrained.expectation.row.name


def test_stages_whose_seconds_are_chosen_need_what_was_measured_and_a_step(
    folder: Path, pace: Callable[[Pace], None]
) -> None:
    pace(SLOW)
    chooser = Chooser(str(folder), Wanted(minutes=20, layers=2), TEXT)
    _, measured = chooser._best(chooser._offers(), SLOW, Besides(0, 0, 0))
    fits = [one for one in measured if one.draft.timed and not one.draft.training]
    assert len(fits) > 2
    for one in fits:
        least = one.needs - one.fixed - one.step
        # Not an epoch of the text.
        assert one.step < 0.02 * least


@pytest.mark.slow
def test_a_share_of_the_parameters_may_be_met_by_width(folder: Path, pace: Callable[[Pace], None]) -> None:
    pace(FAST)
    made = choice(folder, ratio=0.3, minutes=5, recovery=False, layout="custom")
    assert stage_names(made.recipe) != []
    assert all("layout: custom" not in line for line in made.why if line.startswith("left out"))
    native = choice(folder, ratio=0.3, minutes=5, recovery=False)
    assert native.recipe.layout == "native"
    assert said(native.why, "left out: layers and channels together").endswith("it needs layout: custom")


def test_minutes_that_do_not_suffice_say_how_many_would(folder: Path, pace: Callable[[Pace], None]) -> None:
    pace(Pace(token=1.0, scores=0.1, product=1e-9))
    with pytest.raises(BudgetError, match=r"minutes: found 1; the cheapest recipe, '.*', needs about \d+ (min|h)"):
        choice(folder, layers=1, minutes=1)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"ratio": 0.2, "layers": 1}, "found ratio and layers"),
        ({}, "found none of them"),
        ({"ratio": 0.1, "minutes": -1}, "minutes: found -1"),
        ({"layers": 6}, "layers: found 6; the model has 6 layers"),
        ({"layers": 1, "layout": "customs"}, "Did you mean 'custom'"),
        ({"layers": 1, "sed": 3}, "unknown option 'sed'"),
        ({"layers": 1, "stages": []}, "unknown option 'stages'"),
        ({"layers": 1, "calibration": ["too short"]}, "calibration: text 'list' has"),
        ({"layers": 1, "calibration": "./not-there.txt"}, "calibration: "),
        ({"layers": 1, "calibration": {"name": "generated"}}, "is written by the model"),
    ],
)
def test_what_is_wrong_is_told_before_the_model_is_loaded(
    folder: Path, changes: dict[str, Any], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swm.loading.models.load_model", lambda *given, **options: pytest.fail("it was loaded"))
    with pytest.raises(SwmError) as caught:
        choice(folder, **changes)
    assert wrong in str(caught.value)


def test_an_output_that_exists_is_refused_before_the_model_is_loaded(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    with pytest.raises(SwmError, match="output: "):
        choice(folder, layers=1, output=tmp_path / "there")


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_run_leaves_a_model_and_the_recipe_that_gives_the_same_plan(
    folder: Path, tmp_path: Path, pace: Callable[[Pace], None]
) -> None:
    pace(FAST)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(TEXT))
    result = swm.auto(str(folder), layers=2, minutes=3, calibration=text, output=tmp_path / "out")
    assert result.output == tmp_path / "out"
    assert result.report["compressed"]["layers"] == 4
    assert result.report["verification"]["generated_equal"]
    for which in ("dense", "compressed"):
        assert result.report["perplexity"][which]["protocol"]["text"]["name"] == "held-out"
    assert result.recipe is not None
    assert any(line.startswith("measured: ") for line in result.why)
    notes = result.report["notes"]
    assert notes[:2] == list(result.why[:2])
    # Seconds differ from run to run.
    assert not any(note.startswith(("time:", "left out:")) for note in notes)
    data, _ = yamlfile.read("recipe", tmp_path / "out" / "recipe.yaml")
    # Which stages come before the training is the list's business.
    assert data["stages"][-1]["recover"]["seconds"] > 1
    again, plugins = swm.load_recipe(tmp_path / "out" / "recipe.yaml", ["output=null"])
    assert swm.CompressionPipeline(again, plugins).plan().lines() == result.plan.lines()
    assert repr(result).startswith("AutoResult")


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_model_object_is_taken_with_text_in_memory(tiny: Callable[[str], Any], pace: Callable[[Pace], None]) -> None:
    pace(FAST)
    model, before = tiny("llama"), tiny("llama").state_dict()
    result = swm.auto(model, layers=1, minutes=2, tokenizer=tiny_tokenizer(), calibration=iter(TEXT))
    assert result.report["compressed"]["layers"] == 5
    assert all((value == before[name]).all() for name, value in model.state_dict().items())
    assert result.unsaved


@pytest.mark.usefixtures("small")
def test_without_a_tokenizer_token_ids_are_fitted_to_and_nothing_is_trained(
    tiny: Callable[[str], Any], pace: Callable[[Pace], None]
) -> None:
    import torch

    pace(FAST)
    ids = torch.randint(3, 96, (16, 64), generator=torch.Generator().manual_seed(0))
    made = swm.choose_recipe(tiny("llama"), layers=1, minutes=2, calibration=ids)
    assert stage_names(made.recipe) == ["depth", "distil-blocks"]
    assert said(made.why, "note: nothing is measured")
    assert said(made.why, "left out: the training after ").endswith("and there is no tokenizer")


def test_stages_share_what_is_left_when_their_turn_comes(folder: Path, pace: Callable[[Pace], None]) -> None:
    pace(FAST)
    chooser = Chooser(str(folder), Wanted(layers=1, minutes=10), TEXT)
    offers = chooser._offers()
    prospect = chooser._prospect(offers)
    offer, drafting = prospect.offer, offers.drafting
    pipeline = chooser._pipeline(drafting, drafting.recipe(offer.draft, 1.0))
    pipeline.timed, pipeline.after = {1: 2.0}, 100.0
    pipeline.with_seconds = lambda seconds: drafting.with_seconds(offer.draft, seconds, 0)
    pipeline.clock = Clock(10, time.perf_counter() - 200)
    assert pipeline.in_time(0, pipeline.recipe.stages[0]) is pipeline.recipe.stages[0]
    stage: Any = pipeline.in_time(1, pipeline.recipe.stages[1])
    assert stage.recovery.seconds == pytest.approx(300, abs=1)
    assert pipeline.recipe.stages[1] == stage
    pipeline.clock = Clock(10, time.perf_counter() - 900)
    late: Any = pipeline.in_time(1, pipeline.recipe.stages[1])
    assert late.recovery.seconds == 1


def test_what_is_evaluated_takes_a_small_part_of_the_minutes() -> None:
    pace = Pace(token=0.001, scores=0.001, product=0)
    assert evaluated_tokens(20, pace, most=8192, seq_len=256) == 8192
    # 3 s for two models, each token in 2 ms.
    assert evaluated_tokens(1, pace, most=8192, seq_len=256) == 512
    assert evaluated_tokens(20, pace, most=300, seq_len=256) == 256
    assert Besides(begin=1, measure=2, save=3).all == 8


def test_errors_are_those_of_swm(folder: Path) -> None:
    with pytest.raises(TextError):
        choice(folder, layers=1, calibration=["a"])
    with pytest.raises(RecipeError):
        choice(folder, layers=0)


def test_of_a_mix_each_text_is_held_out(folder: Path, pace: Callable[[Pace], None], tmp_path: Path) -> None:
    pace(FAST)
    (tmp_path / "a.txt").write_text("\n\n".join(TEXT))
    (tmp_path / "b.txt").write_text("\n\n".join(TEXT[:6]))
    mix = {"mix": {str(tmp_path / "a.txt"): 0.75, str(tmp_path / "b.txt"): 0.25}}
    made = choice(folder, layers=1, minutes=5, calibration=mix)
    text = made.recipe.calibration.text
    assert [part.text.name for part in text.parts()] == ["held-out", "held-out"]
    assert made.recipe.evaluate.perplexity is not None
    assert made.recipe.evaluate.perplexity.text == text
