"""What people see of objects: short texts in a session, tables in a notebook, and never a tensor or a module tree."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

import swm
from swm.errors import SwmError, quoted
from swm.interfaces.progress import Silent, usual_progress
from swm.plugins.loading import Plugins
from swm.shown.notebook import NotebookProgress
from swm.shown.tables import Table
from swm.testing import tiny_model, tiny_tokenizer

TREE = nn.Sequential(*(nn.Linear(4, 4) for _ in range(30)))
TENSOR = torch.arange(400.0).reshape(20, 20)


class Parsed(html.parser.HTMLParser):
    """The cells of HTML, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("br",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("shown") / "tiny"
    tiny_model("llama").save_pretrained(place)
    tiny_tokenizer().save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def run(folder: Path) -> swm.RunResult:
    return swm.compress(
        str(folder),
        [{"depth": {"pruner": "last", "target": {"layers": 1}}}],
        calibration={"samples": 2, "seq_len": 16},
        evaluate={"perplexity": {"text": "python-docs", "seq_len": 16, "max_tokens": 64}},
    )


def seen(thing: Any) -> str:
    """The HTML of a thing, checked: well-formed, and its texts."""
    text = thing._repr_html_()
    parsed = Parsed(text)
    assert not parsed.open
    return "\n".join(parsed.cells)


def test_a_run_is_one_line_and_its_html_is_the_table_of_the_command_line(run: swm.RunResult) -> None:
    assert "\n" not in repr(run)
    assert len(repr(run)) < 300
    assert "layers 6 to 5" in repr(run)
    assert "nothing was saved" in repr(run)
    shown = seen(run)
    for word in ("parameters", "perplexity", "dense", "compressed", "depth: "):
        assert word in shown


def test_plans_recipes_registries_and_inspections_are_short_and_have_html(
    run: swm.RunResult, folder: Path, plugins: Plugins, tmp_path: Path
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("model: m\nstages:\n  - depth: {pruner: last, target: {layers: 1}}\n", encoding="utf-8")
    recipe, loaded = swm.load_recipe(file)
    inspection = swm.inspect(str(folder), calibration={"samples": 2, "seq_len": 16})
    measured = swm.evaluate(str(folder), perplexity={"text": "python-docs", "seq_len": 16, "max_tokens": 64})
    for thing in (run, run.plan, recipe, loaded, loaded.registry, inspection, measured):
        text = repr(thing)
        assert "\n" not in text
        assert len(text) < 400, text
        assert seen(thing)
    assert "block influence" in seen(inspection)
    assert repr(measured).startswith("Measurements(")
    assert json.loads(json.dumps(measured)) == dict(measured)
    assert "sliding-window" in seen(plugins.registry)
    assert repr(recipe) == "Recipe(m: depth; nothing is saved)"


def test_no_public_dataclass_prints_what_a_tensor_holds() -> None:
    """Fields that may hold tensors or modules get some, and all others None."""
    tried = []
    for name in swm.__all__:
        thing = getattr(swm, name)
        fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
        holders = [f.name for f in fields if any(word in str(f.type) for word in ("Tensor", "Module", "Any"))]
        if not holders or hasattr(thing, "_repr_html_"):
            continue
        for value in (TENSOR, TREE, [TENSOR], {"a": TENSOR}):
            made = object.__new__(thing)
            for field in fields:
                object.__setattr__(made, field.name, value if field.name in holders else None)
            assert "tensor(" not in repr(made), name
            assert "\n" not in repr(made), name
        tried.append(name)
    assert {"Samples", "Recording", "CoupledWeight", "Calibration"} <= set(tried)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (TENSOR, "<Tensor 20x20 torch.float32>"),
        ([TENSOR, 1], "[<Tensor 20x20 torch.float32>, 1]"),
        ({"a": {"b": TENSOR}}, "{'a': {'b': <Tensor 20x20 torch.float32>}}"),
        (TREE, "<Sequential>"),
        (TENSOR.numpy(), "<ndarray 20x20 float32>"),
        (torch.tensor(3), "<Tensor one number torch.int64>"),
        ("a" * 300, f"'{'a' * 49}...{'a' * 24}'"),
        (None, "None"),
        ([1, 2.5, True, "x"], "[1, 2.5, True, 'x']"),
        (int, "<class 'int'>"),
    ],
)
def test_values_in_messages_are_short(value: object, shown: str) -> None:
    assert quoted(value) == shown


def test_a_number_of_thousands_of_digits_is_no_error() -> None:
    assert len(quoted(10**5000)) <= 110


def wrong_calls(folder: Path) -> list[tuple[str, Any]]:
    """Calls of public functions with a tensor or a tree of modules where something else belongs."""
    stages = [{"depth": {"pruner": "last", "target": {"layers": 1}}}]
    calls: list[tuple[str, Any]] = []
    for value in (TENSOR, TREE):
        for key in swm.Recipe.__dataclass_fields__:
            if key in ("model", "stages"):
                continue
            calls.append((f"compress {key}", lambda k=key, v=value: swm.compress(str(folder), stages, **{k: v})))
        for wrong in (
            value,
            [value],
            [{"depth": value}],
            [{"depth": {"pruner": value}}],
            [{"width": {"target": value}}],
        ):
            calls.append(("compress stages", lambda w=wrong: swm.compress(str(folder), w)))
        for key in ("dtype", "device", "memory", "perplexity", "tasks", "speed", "prompts"):
            calls.append((f"evaluate {key}", lambda k=key, v=value: swm.evaluate(str(folder), **{k: v})))
        for key in ("similarity", "calibration", "seed", "dtype", "device", "memory", "patch_threshold"):
            calls.append((f"inspect {key}", lambda k=key, v=value: swm.inspect(str(folder), **{k: v})))
        calls.append(("override", lambda v=value: swm.unknown("name", v, ["a", "b"])))
    return calls


def said(call: Callable[[], object]) -> str:
    """What a call returns or what it says is wrong."""
    try:
        return str(call())
    except SwmError as error:
        return str(error)


def test_errors_print_no_tensor_and_no_module_tree(folder: Path) -> None:
    for name, call in wrong_calls(folder):
        message = said(call)
        assert "tensor(" not in message, name
        assert "Linear(" not in message, name
        assert "\n" not in message, name
        assert len(message) < 1500, name


def test_parameters_of_strategies_print_no_tensor(plugins: Plugins) -> None:
    build = plugins.registry.build_named
    for entry in plugins.registry.entries():
        kind, name = entry.strategy.kind, entry.strategy.name
        for field in dataclasses.fields(entry.strategy):  # type: ignore[arg-type]
            for value in (TENSOR, TREE):
                message = said(lambda k=kind, n=name, f=field.name, v=value: build(k, n, {f: v}))  # type: ignore[misc]
                assert "tensor(" not in message, (name, field.name)
                assert "Linear(" not in message, (name, field.name)
                assert "\n" not in message, (name, field.name)


def test_a_table_shows_text_of_others_as_it_is() -> None:
    table = Table(["", "<b>", "n"], [["[hidden, hidden]", "<script>\x1b[2J", "1.5 ± 0.2"]], "a & b")
    text = table.html()
    assert "[hidden, hidden]" in text
    assert "&lt;script&gt;\\x1b[2J" in text
    assert "a &amp; b" in text
    assert text.count("text-align:right") == 2


def test_the_package_lists_its_public_names_and_nothing_else() -> None:
    assert set(swm.__all__) <= set(dir(swm))
    assert not [name for name in dir(swm) if name.startswith("_") and name != "__version__"]


class Display:
    """What a notebook would show."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, thing: Any, display_id: bool = False) -> Display:
        self.shown.append(thing)
        return self

    def update(self, thing: Any) -> None:
        self.shown[-1] = thing


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Display:
    """A kernel, as far as swm looks at one."""
    display = Display()
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    shown = types.SimpleNamespace(HTML=lambda text: text, display=display)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    return display


def test_a_notebook_shows_progress_where_nobody_asks_for_any(notebook: Display, folder: Path) -> None:
    assert isinstance(usual_progress(), NotebookProgress)
    swm.evaluate(str(folder), perplexity={"text": "python-docs", "seq_len": 16, "max_tokens": 64})
    [shown] = notebook.shown
    assert "perplexity" in shown
    assert "<progress" not in shown
    assert not Parsed(shown).open


def test_a_step_shows_a_bar_while_it_runs_and_says_when_it_breaks_off(notebook: Display) -> None:
    progress = NotebookProgress()

    def broken() -> None:
        with progress.task("<fit>", 4) as task:
            assert '&lt;fit&gt; <progress value="0" max="4"></progress> 0/4' in notebook.shown[-1]
            task.advance(2, "loss 1 < 2")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        broken()
    assert "&lt;fit&gt;: broken off after" in notebook.shown[-1]


def test_a_script_shows_nothing() -> None:
    assert isinstance(usual_progress(), Silent)


def test_an_own_model_is_named_by_its_type() -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **TINY))
    assert quoted(model) == "<LlamaForCausalLM>"


TINY = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 16}
