"""Plugins that print, exit or fail: standard output stays the result's, and the error names the plugin."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from torch import Tensor

import swm
from swm import cli
from swm.commands.command import Command
from swm.errors import PluginError
from swm.plugins.guarding import describe, no_exit
from swm.plugins.loading import load_plugins
from swm.study.studies import run_study
from swm.testing import tiny_model

PLUGIN = """
import logging, sys
from dataclasses import dataclass
from typing import ClassVar
import swm
from swm.model.windows import windows_without

# AT IMPORT

@dataclass(frozen=True)
class Mine(swm.DepthPruner):
    name: ClassVar[str] = "mine"

    def propose(self, context):
        # IN PROPOSE
        return swm.DepthProposal(windows_without([1], context.layers))

@swm.hookimpl
def swm_register(register):
    register(Mine)
    # IN swm_register

@swm.hookimpl
def swm_run_started(recipe):
    pass  # IN swm_run_started

@swm.hookimpl
def swm_stage_finished(index, stage, facts):
    pass  # IN swm_stage_finished

@swm.hookimpl
def swm_measured(which, metrics):
    pass  # IN swm_measured
"""
MERGER = """
from dataclasses import dataclass
import swm

@dataclass(frozen=True)
class Failing(swm.LayerMerger):
    name = "failing"

    def merge(self, window):
        raise ZeroDivisionError("no layer")

@dataclass(frozen=True)
class Odd(swm.SimilarityMetric):
    name = "odd"

    def compare(self, reference, candidate, mask=None):
        return [][1]

@swm.hookimpl
def swm_register(register):
    register(Failing)
    register(Odd)
"""
HOOKS = ("swm_register", "swm_run_started", "swm_stage_finished", "swm_measured")


@pytest.fixture
def recipe(tmp_path: Path, stories: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a recipe with the plugin, in which lines are put in the places of comments."""
    monkeypatch.setenv("SWM_CACHE", str(tmp_path / "cache"))

    def written(**lines: str) -> Path:
        source = PLUGIN
        for place, line in lines.items():
            source = source.replace(f"# {place.replace('_', ' ', 1)}", line).replace(f"pass  {line}", line)
        (tmp_path / "mine.py").write_text(source)
        data = {
            "model": str(stories),
            "calibration": {"text": "python-docs", "samples": 2, "seq_len": 32},
            "plugins": ["mine.py"],
            "stages": [{"depth": {"pruner": "mine", "target": {"layers": 1}}}],
            "evaluate": {"perplexity": {"text": "python-docs", "seq_len": 64, "max_tokens": 128}},
        }
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data))
        return tmp_path / "recipe.yaml"

    return written


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Any, str, str]:
    """The exit code, standard output and standard error of the command."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.argv", ["swm", *arguments])
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0, out.getvalue(), err.getvalue()


def test_what_plugins_print_does_not_spoil_the_result(recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    talks = {f"IN_{hook}": f"print('{hook}')" for hook in HOOKS}
    handler = "logging.getLogger('mine').addHandler(logging.StreamHandler(sys.stdout)); print('import')"
    file = recipe(AT_IMPORT=handler, IN_PROPOSE="print('propose'); logging.getLogger('mine').error('logged')", **talks)
    code, out, err = run(monkeypatch, "compress", str(file), "--json")
    assert code == 0, err
    assert json.loads(out)["compressed"]["layers"] == 4
    assert {*HOOKS, "import", "propose", "logged"} <= set(err.split())
    code, out, err = run(monkeypatch, "strategies", "--json", "--plugin", str(file.with_name("mine.py")))
    assert any(each["name"] == "mine" for each in json.loads(out))


@pytest.mark.parametrize("exits", ["sys.exit(0)", "raise SystemExit", "raise GeneratorExit('over')"])
def test_an_exit_at_import_is_an_error_that_names_the_file(recipe, monkeypatch: pytest.MonkeyPatch, exits: str) -> None:
    code, out, err = run(monkeypatch, "compress", str(recipe(AT_IMPORT=exits)))
    assert (code, out) == (2, "")
    assert "mine.py: " in err
    assert "Exit" in err


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sys.exit(0)", "SystemExit: 0 (mine.py, line "),
        ("1 / 0", "ZeroDivisionError: division by zero (mine.py, line "),
        ("raise AssertionError", "AssertionError (mine.py, line "),
    ],
)
def test_an_error_in_a_hook_names_the_plugin_and_the_hook(
    recipe, monkeypatch: pytest.MonkeyPatch, hook: str, line: str, says: str
) -> None:
    code, out, err = run(monkeypatch, "compress", str(recipe(**{f"IN_{hook}": line})), "-q")
    assert (code, out) == (2, "")
    assert f"mine.py: hook {hook}: {says}" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1 / 0", "depth 'mine': ZeroDivisionError: division by zero (mine.py, line "),
        ("return [3]", "depth pruner 'mine' returned a list; propose() gives a DepthProposal of windows"),
        ("return context.hidden(0).mean()", "depth 'mine': AttributeError: 'generator' object has no attribute 'mean'"),
    ],
)
def test_an_error_in_a_strategy_is_one_line_with_its_name_and_place(
    recipe, monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    code, out, err = run(monkeypatch, "compress", str(recipe(IN_PROPOSE=line)), "-q")
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


def test_an_error_of_swm_itself_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), no_exit():
        1 / 0  # noqa: B018  raised here


def test_an_exit_in_a_strategy_is_an_error_with_its_place(recipe, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = recipe(IN_PROPOSE="sys.exit(0)")
    code, out, err = run(monkeypatch, "compress", str(file), "-q")
    assert (code, out) == (2, "")
    assert "a plugin ended the run by SystemExit: 0 (mine.py, line " in err
    # So it is where swm is a library, and in the runs of a study.
    data = yaml.safe_load(file.read_text())
    with pytest.raises(PluginError, match=r"SystemExit: 0 \(mine\.py"):
        swm.compress(
            data["model"], data["stages"], plugin_files=[str(tmp_path / "mine.py")], calibration=data["calibration"]
        )
    study = {"recipe": data, "executor": "serial", "grid": {"seed": [0]}, "baselines": False}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    tally, _ = run_study(tmp_path / "study.yaml", tmp_path / "out")
    [failed] = tally.failed
    assert "SystemExit: 0 (mine.py" in failed["error"]


def test_who_stops_the_run_while_a_hook_runs_stops_the_run(recipe, tmp_path: Path) -> None:
    recipe(IN_swm_run_started="raise KeyboardInterrupt")
    plugins = load_plugins([tmp_path / "mine.py"])
    with pytest.raises(KeyboardInterrupt):
        plugins.manager.hook.swm_run_started(recipe={})
    (tmp_path / "other.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_plugins([tmp_path / "other.py"])


def test_errors_are_told_with_the_place_they_come_from() -> None:
    with pytest.raises(ValueError, match="Expecting property name") as found, no_exit():
        json.loads("{")
    assert describe(found.value).startswith("JSONDecodeError: Expecting property name")
    assert "(decoder.py, line " in describe(found.value)


def test_every_command_keeps_standard_output_for_its_result() -> None:
    def leaves(command: Any) -> list[Any]:
        inner = getattr(command, "commands", {})
        return [leaf for each in inner.values() for leaf in leaves(each)] if inner else [command]

    found = leaves(typer.main.get_command(cli.app))
    assert len(found) > 15
    assert [leaf.name for leaf in found if not isinstance(leaf, Command)] == []


def test_an_error_in_a_strategy_is_one_line_where_a_single_piece_runs_it(tmp_path: Path, ids: Tensor) -> None:
    (tmp_path / "failing.py").write_text(MERGER)
    model, files = tiny_model("llama"), [str(tmp_path / "failing.py")]
    with pytest.raises(PluginError) as caught:
        swm.merge_layers(model, [(1, 2)], merger="failing", plugin_files=files)
    assert str(caught.value) == "merger 'failing': ZeroDivisionError: no layer (failing.py, line 10)"
    with pytest.raises(PluginError) as caught:
        swm.layer_similarity(model, ids, metric="odd", plugin_files=files)
    assert str(caught.value) == "similarity 'odd': IndexError: list index out of range (failing.py, line 17)"
    assert model.config.num_hidden_layers == 6


def test_a_list_that_swm_register_returns_is_refused(tmp_path: Path) -> None:
    listing = PLUGIN.replace("    register(Mine)\n", "    return [Mine]\n")
    (tmp_path / "listing.py").write_text(listing)
    with pytest.raises(PluginError, match=r"swm_register returned .*; it must call register\(MyStrategy\) for each"):
        load_plugins([str(tmp_path / "listing.py")])
