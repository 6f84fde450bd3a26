"""A result that misses a limit of `accept` leaves its report and no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from swm.cli import app
from swm.errors import RecipeError
from swm.files.yaml_file import dump
from swm.measure.acceptance import Acceptance, AtLeast, AtMost, MeasureLimit
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.report.judgement import judge, missed
from swm.report.record import Measures

TASK = {"metric": "acc", "higher_is_better": True, "items": 10}


def measures(before: float, after: float, scores: tuple[float, float] = (0.5, 0.4)) -> Measures:
    """What was measured of both models."""
    return Measures.model_validate(
        {
            "perplexity": {
                "dense": {"value": before, "protocol": {}},
                "compressed": {"value": after, "protocol": {}},
            },
            "tasks": {
                which: {"tasks": {"one": {"value": value, **TASK}}, "protocol": {}}
                for which, value in zip(("dense", "compressed"), scores, strict=True)
            },
        }
    )


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Acceptance(perplexity=AtMost(1.5)), ""),
        (Acceptance(perplexity=AtMost(1.2)), "perplexity is 1.400 times the original's, at most 1.2 is accepted"),
        (Acceptance(tasks=AtLeast(0.8)), ""),
        (Acceptance(AtMost(2), AtLeast(0.9)), "tasks is 0.800 times the original's, at least 0.9 is accepted"),
    ],
)
def test_a_limit_is_a_multiple_of_what_the_original_reaches(limits: Acceptance, says: str) -> None:
    judgement = judge(limits, measures(10.0, 14.0))
    assert missed(judgement) == says
    assert judgement["accepted"] == (not says)


def test_what_cannot_be_compared_is_not_accepted() -> None:
    limits = Acceptance(AtMost(2), AtLeast(0.1))
    judgement = judge(limits, measures(10.0, float("inf"), (0.0, 0.0)))
    assert missed(judgement).startswith(
        "perplexity is ∞ times the original's, at most 2 is accepted; tasks is not known"
    )
    assert missed(judge(limits, Measures())).count("not known") == 2


def test_a_ratio_to_a_number_of_zero_or_less_is_not_accepted() -> None:
    rest = {"measure": "m", "protocol": {}}
    numbers = {which: {"one": {"value": value, **rest}} for which, value in (("dense", -2.0), ("compressed", -4.0))}
    limits = Acceptance(measures={"one": MeasureLimit(at_least=0.95)})
    assert missed(judge(limits, Measures.model_validate({"measures": numbers}))).startswith("one is not known")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"accept": {"perplexity": {"at_most": 1.3}}}, "accept.perplexity: it is not measured; add evaluate"),
        ({"accept": {}}, "accept needs perplexity"),
        ({"accept": {"perplexity": {"at_least": 1.3}}}, "at_most"),
        ({"accept": {"perplexity": {"at_most": 0}}}, "accept.perplexity.at_most"),
    ],
)
def test_wrong_limits_are_told_before_anything_runs(changes: dict[str, Any], says: str, plugins: Plugins) -> None:
    recipe = {"model": "x", "stages": [{"depth": {"pruner": "last", "target": {"layers": 1}}}], **changes}
    with pytest.raises(RecipeError, match=says):
        build_recipe(recipe, plugins)


def run(folder: Path, stories: Path, at_most: float, *options: str) -> Any:
    """The command, and what it leaves at `folder/out`."""
    recipe = {
        "model": str(stories),
        "stages": [{"depth": {"pruner": "last", "merger": "delete", "target": {"layers": 1}}}],
        "calibration": {"text": "python-docs", "samples": 2, "seq_len": 16},
        "evaluate": {"perplexity": {"text": "python-docs", "seq_len": 32, "max_tokens": 128}},
        "accept": {"perplexity": {"at_most": at_most}},
        "output": str(folder / "out"),
    }
    (folder / "recipe.yaml").write_text(dump(recipe))
    return CliRunner().invoke(app, ["compress", str(folder / "recipe.yaml"), *options])


def test_a_rejected_result_leaves_its_report_and_exit_code_3(tmp_path: Path, stories: Path) -> None:
    done = run(tmp_path, stories, 0.001)
    assert done.exit_code == 3, done.output
    assert "rejected: perplexity is" in done.stderr
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert {"plan.yaml", "recipe.yaml", "report.html", "report.json"} <= set(left)
    assert not {"README.md", "config.json", "model.safetensors"} & set(left)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["acceptance"]["accepted"] is False
    assert "<strong>Rejected: perplexity is " in (tmp_path / "out" / "report.html").read_text()
    # It is a folder of swm's own, so the next run may replace it.
    assert run(tmp_path, stories, 1000.0, "--overwrite").exit_code == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_rejected_result_can_be_kept(tmp_path: Path, stories: Path) -> None:
    assert run(tmp_path, stories, 0.001, "--keep-rejected").exit_code == 3
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_rejected_result_is_told_as_not_saved(tmp_path: Path, stories: Path) -> None:
    run(tmp_path, stories, 0.001)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["saved"] is False
    assert "The compressed model was not saved." in (tmp_path / "out" / "report.html").read_text()
    run(tmp_path, stories, 1000.0, "--overwrite")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["saved"] is True


def test_a_run_without_an_output_says_before_and_after_that_nothing_is_saved(tmp_path: Path, stories: Path) -> None:
    done = run(tmp_path, stories, 1000.0, "--set", "output=null")
    assert "nothing will be saved: the recipe has no output" in done.stderr
    assert "nothing was saved: the recipe has no output; name a folder" in done.stdout
    shown = run(tmp_path, stories, 1000.0, "--set", "output=null", "--json")
    assert json.loads(shown.stdout)["saved"] is False
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("level", ["fast", "none"])
def test_a_run_may_check_less_and_says_so_everywhere(level: str, tmp_path: Path, stories: Path) -> None:
    done = run(tmp_path, stories, 1000.0, "--verify", level)
    told = f"(verify: {level})"
    assert done.exit_code == 0, done.output
    assert told in " ".join(done.stdout.split())
    assert "reload" not in done.stderr
    assert json.loads((tmp_path / "out" / "report.json").read_text())["verification"]["level"] == level
    for page in ("README.md", "report.html"):
        assert told in (tmp_path / "out" / page).read_text()
    assert f"verify: {level}" in (tmp_path / "out" / "recipe.yaml").read_text()
