"""Recipes: what is written out is read back equal, from YAML and from Python alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import house
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import RECIPES

from swm.builtin.stages.depth import DepthStage
from swm.builtin.texts.file import FileText
from swm.builtin.texts.hub import HubText
from swm.builtin.texts.inline import InlineText
from swm.errors import RecipeError, SwmWarning
from swm.files import yaml_file as yamlfile
from swm.interfaces.recovery import Recovery, RecoveryContext
from swm.interfaces.target import Target
from swm.mergers.consolidate import Consolidate
from swm.plugins.loading import Plugins
from swm.pruners.last import Last
from swm.pruners.sliding_window import SlidingWindow
from swm.recipe.building import build_recipe
from swm.recipe.loading import load_recipe
from swm.recipe.recipe import Recipe
from swm.similarity.cka import CKA
from swm.similarity.cosine import Cosine

EXAMPLES = sorted((house.ROOT / "examples").glob("*.yaml"))


YAML_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["on", "off", "yes", "no", "y", "n", "1e-3", "1.e5", ".5", "0x1f", "0o17", "1:30", "2024-01-01"])
    | st.sampled_from(["true", "False", "null", "~", "", " ", "- a", "a: b", "#", "&a", "*a", "!x", "<<", "=", ".inf"])
)
YAML_DATA = st.recursive(
    YAML_SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def parsed(text: str, plugins: Plugins) -> Recipe:
    data, _ = yamlfile.parse(text)
    return build_recipe(data, plugins)


@pytest.mark.parametrize("text", RECIPES.values(), ids=list(RECIPES))
def test_a_resolved_recipe_read_back_is_equal(text: str, plugins: Plugins) -> None:
    recipe = parsed(text, plugins)
    again = parsed(yamlfile.dump(recipe.resolved()), plugins)
    assert again == recipe
    assert again.resolved() == recipe.resolved()


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_each_example_is_a_recipe_that_reads_back_equal(file: Path, plugins: Plugins) -> None:
    recipe, own_plugins = load_recipe(file)
    assert parsed(yamlfile.dump(recipe.resolved()), own_plugins) == recipe


def test_a_resolved_recipe_names_every_default(plugins: Plugins) -> None:
    resolved = parsed(RECIPES["the shortest"], plugins).resolved()
    assert resolved["seed"] == 0
    assert resolved["calibration"]["samples"] == 32
    [stage] = resolved["stages"]
    assert stage["depth"]["merger"]["name"] == "delete"
    assert "similarity" in stage["depth"]


@settings(deadline=None, derandomize=True)
@given(YAML_DATA)
def test_dumped_data_parse_back_equal_and_of_the_same_types(data: Any) -> None:
    again, _ = yamlfile.parse(yamlfile.dump(data))
    assert repr(again) == repr(data)


@settings(deadline=None, derandomize=True)
@given(st.dictionaries(st.text("abc", min_size=1), st.floats(allow_nan=False), min_size=1))
def test_other_yaml_readers_read_the_same_numbers(data: dict[str, float]) -> None:
    assert yaml.safe_load(yamlfile.dump(data)) == data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        ("1_000", 1000),
        ("010", 10),
        (".5", 0.5),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("2024-01-01", "2024-01-01"),
        ("null", None),
        ("", None),
        ("'1e-3'", "1e-3"),
    ],
)
def test_a_scalar_is_what_people_mean(text: str, value: Any) -> None:
    found, _ = yamlfile.parse(text)
    assert found == value
    assert type(found) is type(value)


def test_a_small_number_in_scientific_notation_is_a_ratio(plugins: Plugins) -> None:
    recipe = parsed("{model: m, stages: [{depth: {pruner: last, target: {ratio: 1e-3}}}]}", plugins)
    assert recipe.stages[0].target == Target(ratio=0.001)


def test_a_whole_number_stands_for_a_fraction_of_itself(plugins: Plugins) -> None:
    pruner = "{name: sliding-window, threshold: 1}"
    recipe = parsed(f"{{model: m, stages: [{{depth: {{pruner: {pruner}}}}}]}}", plugins)
    assert recipe.stages[0].pruner.threshold == 1.0


def test_every_value_has_its_line() -> None:
    text = "a: 1\nb:\n  - x\n  - c: 2\n    d:\n      e: 3\n"
    _, lines = yamlfile.parse(text)
    assert lines[("a",)] == 1
    assert lines[("b",)] == 2
    assert lines[("b", 0)] == 3
    assert lines[("b", 1, "c")] == 4
    assert lines[("b", 1, "d", "e")] == 6
    assert yamlfile.line_of(("b", 1, "d", "nothing"), lines) == 5
    assert yamlfile.line_of(("nothing",), lines) == 1


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "x: {a: 1, b: 2, a: 3}\n", "a: 1\n'a': 2\n"])
def test_a_duplicate_key_is_an_error(text: str) -> None:
    with pytest.raises(RecipeError, match=r"duplicate key 'a' \(first on line 1\)"):
        yamlfile.parse(text, "r.yaml")


def test_the_message_leads_to_the_line_in_a_long_recipe(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    text = RECIPES["several stages"].replace("skip_first: 2", "skip_frist: 2")
    file.write_text(text)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "skip_frist" in row)
    with pytest.raises(RecipeError) as raised:
        load_recipe(file)
    assert raised.value.place == f"{file}:{line}"
    assert raised.value.path == ("stages", 1, "depth", "similarity", "skip_frist")
    assert str(raised.value).startswith(f"{file}:{line}: stages.1.depth.similarity.skip_frist: ")


@pytest.mark.parametrize(
    ("value", "source"),
    [
        ("./a.txt", FileText("./a.txt")),
        ("a.jsonl.gz", FileText("a.jsonl.gz")),
        ("owner/data", HubText("owner/data")),
        (["a", "b"], InlineText(("a", "b"))),
        ({"name": "file", "path": "a", "field": "body"}, FileText("a", "body")),
    ],
)
def test_a_bare_value_means_the_text_source_that_understands_it(value: Any, source: Any, plugins: Plugins) -> None:
    stages = [{"depth": {"pruner": "last", "target": {"layers": 1}}}]
    recipe = build_recipe({"model": "m", "stages": stages, "calibration": {"text": value}}, plugins)
    assert recipe.calibration.text == source


def test_the_same_keys_in_python_and_yaml_give_the_same_recipe(plugins: Plugins) -> None:
    from_yaml = parsed(
        """
        model: m
        calibration: {text: [some text], samples: 2, seq_len: 8}
        stages:
          - depth:
              pruner: {name: sliding-window, protect_first: 2}
              similarity: {name: cosine, tokens: each}
              merger: consolidate
              target: {ratio: 0.2}
          - depth: {pruner: last, target: {layers: 1}}
        """,
        plugins,
    )
    as_data = {
        "model": "m",
        "calibration": {"text": ["some text"], "samples": 2, "seq_len": 8},
        "stages": [
            {
                "depth": {
                    "pruner": {"name": "sliding-window", "protect_first": 2},
                    "similarity": {"name": "cosine", "tokens": "each"},
                    "merger": "consolidate",
                    "target": {"ratio": 0.2},
                }
            },
            {"depth": {"pruner": "last", "target": {"layers": 1}}},
        ],
    }
    as_instances = {
        "model": "m",
        "calibration": {"text": InlineText(["some text"]), "samples": 2, "seq_len": 8},
        "stages": [
            {
                "depth": {
                    "pruner": SlidingWindow(protect_first=2),
                    "similarity": Cosine(tokens="each"),
                    "merger": Consolidate(),
                    "target": Target(ratio=0.2),
                }
            },
            DepthStage(Last(), Target(layers=1)),
        ],
    }
    assert build_recipe(as_data, plugins) == from_yaml
    assert build_recipe(as_instances, plugins) == from_yaml
    assert build_recipe(as_instances, plugins).resolved() == from_yaml.resolved()


@pytest.mark.parametrize(
    ("stage", "path", "says"),
    [
        ({"depth": {"pruner": SlidingWindow(protect_first=-1), "target": {"layers": 1}}}, "pruner.protect_first", "-1"),
        (
            {"depth": {"pruner": Cosine(), "target": {"layers": 1}}},
            "pruner",
            "similarity 'cosine' stands where a depth",
        ),
        ({"depth": {"pruner": Last(), "target": {"layers": 1}, "similarity": Cosine("al")}}, "similarity.tokens", "al"),  # type: ignore[arg-type]
        ({"depth": {"pruner": Last(), "target": {"layers": 1}, "similarity": CKA(bandwidth=0)}}, "bandwidth", "0"),
        (DepthStage(SlidingWindow(threshold=3.0)), "pruner.threshold", "3.0"),
        (DepthStage(Last(), Target(ratio=1.5)), "target.ratio", "1.5"),
    ],
)
def test_instances_made_in_python_are_validated_like_names(stage: Any, path: str, says: str, plugins: Plugins) -> None:
    with pytest.raises(RecipeError) as raised:
        build_recipe({"model": "m", "stages": [stage]}, plugins)
    assert ".".join(map(str, raised.value.path)).endswith(path)
    assert says in raised.value.message


@dataclass(frozen=True)
class Noise(Recovery):
    """A recovery that nobody registered."""

    name: ClassVar[str] = "noise"
    scale: float = 0.1

    def recover(self, context: RecoveryContext) -> dict[str, Any]:
        return {}


def test_an_instance_needs_no_registration_where_a_stage_is_all_of_a_strategy(plugins: Plugins) -> None:
    recipe = build_recipe({"model": "m", "stages": [{"recover": Noise(0.5)}]}, plugins)
    assert recipe.resolved()["stages"] == [{"recover": {"name": "noise", "scale": 0.5}}]


def test_a_recipe_is_a_mapping_in_python_too(plugins: Plugins) -> None:
    with pytest.raises(RecipeError, match="a recipe is a mapping with accept, budget, calibration"):
        build_recipe(["model"], plugins)  # type: ignore[arg-type]


def test_plugins_of_a_recipe_count_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("recipes/plugin.py", "more.py"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("import swm\n\n@swm.hookimpl\ndef swm_register(register):\n    pass\n")
    Path("recipes/recipe.yaml").write_text(f"{RECIPES['the shortest'][:-1]}, plugins: [recipes/plugin.py]}}")
    recipe, plugins = load_recipe("recipes/recipe.yaml", plugin_files=["more.py"])
    assert recipe.plugins == ("recipes/plugin.py", "more.py")
    assert plugins.origins[-2:] == ["recipes/plugin.py", "more.py"]
    with pytest.warns(SwmWarning, match=r"write recipes/plugin.py"):
        beside, _ = load_recipe("recipes/recipe.yaml", ["plugins=[plugin.py]"])
    assert beside.plugins == ("recipes/plugin.py",)
