"""Recoveries in recipes: how they are written, and what is refused before any weight is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swm.builtin.stages.recover import RecoverStage
from swm.builtin.texts.alpaca import Alpaca
from swm.builtin.texts.generated import Generated
from swm.builtin.texts.inline import InlineText
from swm.errors import RecipeError, SwmError
from swm.files import yaml_file as yamlfile
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.recipe.loading import load_recipe
from swm.recipe.recipe import Recipe
from swm.recovery.distill import Distill
from swm.recovery.full import Full
from swm.recovery.lora import LoRA
from swm.recovery.partial import Partial
from swm.run.pipeline import CompressionPipeline


def built(stage: str, plugins: Plugins) -> Recipe:
    data, _ = yamlfile.parse(f"{{model: m, stages: [{stage}]}}")
    return build_recipe(data, plugins)


@pytest.mark.parametrize(
    ("stage", "recovery"),
    [
        ("recover: lora", LoRA(data=Generated())),
        ("recover: ", LoRA(data=Generated())),
        ("recover: {name: lora, rank: 4, data: [a, b]}", LoRA(data=InlineText(("a", "b")), rank=4)),
        ("recover: {name: lora, data: null, dropout: 0}", LoRA(data=Generated(), dropout=0)),
        ("recover: {name: distill, data: {name: generated, count: 9}}", Distill(data=Generated(count=9))),
        ("recover: {name: distill, trains: all, hidden: 0.1}", Distill(data=Generated(), trains="all", hidden=0.1)),
        ("recover: {name: partial, data: {name: alpaca, path: a.json}}", Partial(data=Alpaca("a.json"))),
        ("recover: full", Full(data=Generated())),
    ],
)
def test_a_recovery_is_a_name_or_a_mapping_and_is_read_back_equal(stage: str, recovery: Any, plugins: Plugins) -> None:
    recipe = built(stage, plugins)
    assert list(recipe.stages) == [RecoverStage(recovery)]
    resolved = recipe.resolved()
    [[entry]] = [stage.values() for stage in resolved["stages"]]
    assert entry["name"] == recovery.name
    assert entry["data"] == recovery.data.spec()
    for form in (resolved, yamlfile.parse(yamlfile.dump(resolved))[0], json.loads(json.dumps(resolved))):
        again = build_recipe(form, plugins)
        assert again == recipe
        assert again.resolved() == resolved


def test_the_defaults_are_those_of_the_papers_code() -> None:
    lora = LoRA()
    assert (lora.rank, lora.alpha, lora.dropout) == (8, 16, 0.05)
    assert (lora.epochs, lora.learning_rate, lora.warm_up, lora.cutoff) == (2, 1e-4, 100, 256)
    assert (lora.batch, lora.micro_batch, lora.evaluate_every) == (64, 4, 100)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("recover: lorra", r"stages\.0\.recover: .*'lorra'.*distill, full, lora, partial.*Did you mean 'lora'\?"),
        ("recover: {name: distil}", r"stages\.0\.recover: .*Did you mean 'distill'\?"),
        ("recover: {name: lora, ranks: 4}", r"stages\.0\.recover\.ranks: unknown parameter 'ranks'.*mean 'rank'\?"),
        ("recover: {rank: 4}", r"stages\.0\.recover: a recovery needs a name; known: distill, full, lora, partial"),
        ("recover: {name: lora, rank: 0}", r"stages\.0\.recover\.rank: rank of 'lora': found 0; .*greater than or equ"),
        ("recover: {name: lora, dropout: 1}", r"stages\.0\.recover\.dropout: .*less than 1"),
        ("recover: {name: full, cutoff: 7}", r"stages\.0\.recover\.cutoff: .*greater than or equal to 8"),
        ("recover: {name: distill, trains: al}", r"stages\.0\.recover\.trains: .*allowed: .*Did you mean 'all'\?"),
        ("recover: {name: lora, data: generatd}", r"stages\.0\.recover\.data: .*Did you mean 'generated'\?"),
        ("recover: {name: lora, data: {name: generated, tokns: 9}}", r"stages\.0\.recover\.data\.tokns: .*'tokens'\?"),
        ("recover: {name: lora, data: {name: alpaca}}", r"stages\.0\.recover\.data: 'alpaca': give path, a JSON or"),
        ("recovr: lora", r"stages\.0\.recovr: unknown stage 'recovr'; .*Did you mean 'recover'\?"),
    ],
)
def test_a_mistake_is_told_with_its_place(stage: str, message: str, plugins: Plugins) -> None:
    with pytest.raises(RecipeError, match=message):
        built(stage, plugins)


@pytest.fixture
def refused(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """What is said of a recipe file with this recovery, without a weight being loaded."""

    def run(recovery: str, top: str = "") -> str:
        monkeypatch.setattr("swm.loading.models.load_model", lambda *a, **k: pytest.fail("loaded"))
        file = tmp_path / "recipe.yaml"
        file.write_text(
            f"model: {llama_folder}\n"
            "calibration: {text: python-docs, samples: 2, seq_len: 16}\n"
            f"{top}\n"
            "stages:\n"
            "  - depth: {pruner: last, target: {layers: 1}}\n"
            f"  - recover: {recovery}\n"
        )
        recipe, plugins = load_recipe(file)
        with pytest.raises(SwmError) as caught:
            CompressionPipeline(recipe, plugins).run()
        return str(caught.value)

    return run


def test_pieces_longer_than_the_model_takes_are_refused(refused: Callable[[str], str]) -> None:
    assert refused("lora") == "stages.1.recover.cutoff: found 256; the model takes at most 64 tokens"
    assert refused("{name: full, cutoff: 65}").startswith("stages.1.recover.cutoff: found 65;")


@pytest.mark.parametrize("data", ["{name: alpaca, path: PATH}", "PATH"])
def test_a_missing_file_is_told_with_the_nearest_name(refused, tmp_path: Path, data: str) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    data = data.replace("PATH", str(tmp_path / "row.jsonl"))
    said = refused(f"{{name: lora, cutoff: 16, data: {data}}}")
    assert said.startswith("stages.1.recover.data: ")
    assert said.endswith(f"row.jsonl does not exist. Did you mean '{tmp_path / 'rows.jsonl'}'?")


def test_an_empty_list_is_no_data(refused: Callable[[str], str]) -> None:
    said = refused("{name: lora, cutoff: 16, data: []}")
    assert said == "stages.1.recover.data: the list of texts is empty; write at least one document into it"


def test_generated_text_cannot_measure_perplexity(refused: Callable[..., str]) -> None:
    written = "{name: lora, cutoff: 16, data: {name: generated, tokens: 16}}"
    said = refused(written, "evaluate: {perplexity: {text: generated, seq_len: 16}}")
    assert said.startswith("evaluate.perplexity")
    assert "generated text serves calibration and recovery in a run" in said


def test_text_longer_than_the_model_can_write_is_told_with_its_place(refused: Callable[[str], str]) -> None:
    said = refused("{name: lora, cutoff: 16, data: {name: generated, tokens: 65}}")
    assert said.startswith("stages.1.recover.data: generated text of 65 tokens; the model takes at most 64")


@pytest.mark.parametrize(
    ("recovery", "message"),
    [
        ("{name: lora, cutoff: 16, data: [short]}", "text 'list' gives 0 pieces of 16 tokens to train on; at least 1"),
        ("{name: full, cutoff: 16, held_out: 2, data: [one of two or three short ones]}", "at least 3 are needed"),
        ("{name: partial, cutoff: 16, data: {name: alpaca, path: ROWS}}", ":2: a row needs text in"),
    ],
)
def test_text_that_cannot_be_trained_on_is_told_before_a_weight_is_loaded(
    refused: Callable[[str], str], tmp_path: Path, recovery: str, message: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "Say a.", "output": "a"}\n{"instruction": "Say b."}\n')
    said = refused(recovery.replace("ROWS", str(rows)))
    assert said.startswith("stages.1.recover.data: ")
    assert message in said
