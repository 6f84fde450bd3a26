"""A measure of a plugin at all places where measures are seen: runs, reports, comparisons, limits, the commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from swm.cli import app
from swm.errors import RecipeError
from swm.files.yaml_file import dump
from swm.plugins.loading import Plugins, load_plugins
from swm.recipe.building import build_recipe
from swm.report.record import Measures
from swm.report.summary import named_rows
from swm.testing import tiny_model, tiny_tokenizer

PLUGIN = """
from dataclasses import dataclass
import swm

@dataclass(frozen=True)
class Length(swm.Measure):
    '''How many of the probed tokens have scores above a bound.'''

    name = "loud"
    above: float = 0.0

    def numbers(self):
        return [swm.Metric("loud", share=True, decimals=1)]

    def prepare(self, tokenizer, config):
        return tokenizer("a quick fox", return_tensors="pt").input_ids

    def measure(self, model, tokenizer, context):
        scores = model(context.prepared).logits[0]
        return {"loud": swm.Measurement.of_items((scores.amax(-1) > self.above).tolist())}

@swm.hookimpl
def swm_register(register):
    register(Length)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    (folder / "loud.py").write_text(PLUGIN)
    tiny_model("llama", max_position_embeddings=512).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    return folder


def recipe(home: Path, **changes: Any) -> dict[str, Any]:
    text = ["the quick brown fox jumps over the lazy dog. " * 6]
    return {
        "model": str(home / "model"),
        "plugins": [str(home / "loud.py")],
        "dtype": "float32",
        "calibration": {"text": ["abcdefgh " * 20], "samples": 2, "seq_len": 16},
        "stages": [{"depth": {"pruner": "last", "merger": "delete", "target": {"layers": 2}}}],
        "evaluate": {"measures": ["loud", {"name": "kl-to-dense", "text": text, "seq_len": 32}]},
        **changes,
    }


@pytest.fixture(scope="module")
def ran(home: Path) -> Path:
    """The output of a run."""
    (home / "recipe.yaml").write_text(dump(recipe(home, output=str(home / "out"))))
    done = CliRunner().invoke(app, ["compress", str(home / "recipe.yaml")])
    assert done.exit_code == 0, (done.output, done.exception)
    (home / "shown.txt").write_text(done.output)
    return home / "out"


def test_the_report_has_the_numbers_of_both_models_with_paired_errors(ran: Path) -> None:
    report = json.loads((ran / "report.json").read_text())
    assert list(report["measures"]["compressed"]) == ["loud", "kl-to-dense", "same-top-token"]
    assert report["measures"]["dense"]["kl-to-dense"]["value"] == 0
    assert report["measures"]["compressed"]["kl-to-dense"]["value"] > 0
    assert report["measures"]["compressed"]["kl-to-dense"]["protocol"]["scored_tokens"] == 248
    rows = {row.name: row for row in named_rows(Measures.model_validate(report))}
    assert rows["loud"].items == 11
    assert rows["kl-to-dense"].paired is not None
    assert rows["same-top-token"].dense.value == 100  # type: ignore[union-attr]


def test_people_see_them(ran: Path) -> None:
    page, card = (ran / "report.html").read_text(), (ran / "README.md").read_text()
    assert '<th scope="row">kl-to-dense, less is better</th>' in page
    assert "How the measures were made" in page
    assert "| loud, % | " in card
    assert "kl-to-dense, less is better" in (ran.parent / "shown.txt").read_text()


def test_results_are_compared_where_they_were_measured_alike(ran: Path, home: Path, tmp_path: Path) -> None:
    evaluated = CliRunner().invoke(
        app, ["evaluate", str(ran), "--measure", "loud", "--plugin", str(home / "loud.py"), "--json"]
    )
    assert evaluated.exit_code == 0, (evaluated.output, evaluated.exception)
    (tmp_path / "one.json").write_text(evaluated.stdout)
    assert "perplexity" not in json.loads(evaluated.stdout)
    done = CliRunner().invoke(app, ["compare", str(ran), str(tmp_path / "one.json"), "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    compared = json.loads(done.stdout)
    assert compared["loud"]["out"] == compared["loud"]["one"]
    assert compared["kl-to-dense"]["one"] is None
    other = ["evaluate", str(ran), "--measure", "{name: loud, above: 0.5}", "--plugin", str(home / "loud.py"), "--json"]
    (tmp_path / "other.json").write_text(CliRunner().invoke(app, other).stdout)
    refused = CliRunner().invoke(app, ["compare", str(ran), str(tmp_path / "other.json")])
    assert "loud of 'dense' and 'other' cannot be compared: above is 0.0 and 0.5" in str(refused.exception)


def test_one_model_shows_its_numbers(ran: Path, home: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(ran), "--measure", "loud", "--plugin", str(home / "loud.py")])
    assert "loud, %" in done.output
    refused = CliRunner().invoke(app, ["evaluate", str(ran), "--measure", "kl-to-dense"])
    assert "measures.0: 'kl-to-dense' compares with the original model" in str(refused.exception)


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ({"kl-to-dense": {"at_most": 1e-9, "absolute": True}}, "kl-to-dense is "),
        ({"loud": {"at_least": 0.0}}, ""),
        ({"kl-to-dense": {"at_most": 2}}, "kl-to-dense is not known, at most 2 is accepted"),
    ],
)
def test_limits_are_ratios_or_the_numbers_themselves(ran: Path, limit: Any, says: str, home: Path) -> None:
    from swm.report.judgement import judge, missed

    built = build_recipe(recipe(home, accept={"measures": limit}), load_plugins([home / "loud.py"]))
    assert built.accept is not None
    measures = Measures.model_validate(json.loads((ran / "report.json").read_text()))
    assert missed(judge(built.accept, measures)).startswith(says)
    assert bool(missed(judge(built.accept, measures))) == bool(says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"evaluate": {"measures": ["lud"]}}, r"evaluate.measures.0: unknown measure 'lud'; .* Did you mean 'loud'"),
        (
            {"evaluate": {"measures": ["loud", "loud"]}},
            "evaluate.measures.1: 'loud' of measure 'loud' is also the name",
        ),
        ({"evaluate": {"measures": {"name": "loud", "abve": 1}}}, r"evaluate.measures.0.abve: .* Did you mean 'above'"),
        (
            {"accept": {"measures": {"lod": {"at_most": 1}}}},
            "accept.measures.lod: it is not measured; evaluate.measures",
        ),
        ({"accept": {"measures": {"loud": 1}}}, "accept.measures.loud: found 1; a limit is"),
        ({"accept": {"measures": {"loud": {}}}}, "accept.measures.loud: a limit of a measure is at_most: x or"),
        ({"accept": {"measures": {"loud": {"at_mst": 1}}}}, "accept.measures.loud.at_mst: unknown parameter"),
    ],
)
def test_mistakes_are_told_before_anything_runs(changes: Any, says: str, home: Path) -> None:
    with pytest.raises(RecipeError, match=says):
        build_recipe(recipe(home, **changes), load_plugins([home / "loud.py"]))


def test_a_recipe_with_measures_is_resolved_to_plain_data_that_builds_it_again(home: Path) -> None:
    plugins = load_plugins([home / "loud.py"])
    built = build_recipe(recipe(home, accept={"measures": {"loud": {"at_least": 0.5}}}), plugins)
    resolved = built.resolved()
    assert resolved["evaluate"]["measures"][0] == {"name": "loud", "above": 0.0}
    assert resolved["accept"] == {"measures": {"loud": {"at_least": 0.5, "absolute": False}}}
    assert build_recipe(json.loads(json.dumps(resolved)), plugins) == built


def test_recipes_without_measures_are_resolved_as_before(plugins: Plugins) -> None:
    plain = {"model": "m", "stages": [{"depth": {"pruner": "last", "target": {"layers": 1}}}]}
    resolved = build_recipe({**plain, "evaluate": {"perplexity": {"text": ["a"]}}}, plugins).resolved()
    assert "measures" not in resolved["evaluate"]
