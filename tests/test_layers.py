"""The architecture as rules: who may import whom, and what no file may say."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import swm
from swm.interfaces.strategy import Strategy
from swm.model.families import BUILTIN_FAMILIES
from swm.plugins.loading import Plugins

ROOT = Path(__file__).resolve().parents[1]

# Every module by its rank, the lowest first. A module imports only what stands on a line above its own; strategies,
# tasks, commands and the kit may import helpers of their own folder too. `folder.*` is every module of a folder.
RANKS = """
    processes.children paths files.plain_data processes.signals processes.standard_output
    escapes files.json_text files.published
    swm scaffold run report recipe plan measure checkpoint width training fitting depth text plugins loading
    provenance cache
    model processes files
    errors measure.metrics
    interfaces.progress model.quiet
    checkpoint.reload plugins.hookspecs
    provenance.source_code files.cache_folder
    plugins.foreign
    files.scratch measure.presets
    files.writing
    files.manifest
    files.outputs
    model.lengths plan.fitted
    interfaces.target model.families model.finite model.ranges model.windows files.yaml_file model.kv_cache
    report.flatten
    report.summary
    processes.ranks text.vocabulary
    loading.weights loading.gguf_rope
    loading.config_file model.devices measure.answers
    model.replacement interfaces fitting.ridge text.text_file
    text.json_rows
    model.view interfaces.strategy fitting.refitting text.rows text.wikitext
    provenance.dependencies
    interfaces.depth interfaces.merger interfaces.provider interfaces.similarity interfaces.text interfaces.width
    interfaces.tracker interfaces.executor
    text.tokens
    text.calibration training.schedule measure.speed_protocol model.units interfaces.recovery
    cache.observations
    interfaces.stage training.training_set training.state training.master_weights
    training.folder training.run
    training.training training.next_token cache.kept width.gradients
    width.allocation width.compensation plugins.construct measure.perplexity width.scoring model.surgery
    model.torch_pruning
    depth.fitting checkpoint.modelling spending files.typed_json
    report.record
    depth.engine
    checkpoint.export checkpoint.verification checkpoint.companions
    builtin.families similarity.* mergers.* pruners.* recovery.* builtin.*
    run.tracking measure.tasks.* measure.speed
    plugins.registry
    plugins.catalogue loading.gguf_file plan.plan plugins.loading scaffold.scaffolding
    loading.locating
    loading.config
    loading.loading loading.tokenizer
    loading.models
    run.original
    report.html_format report.drawings measure.layer_pairs measure.patches
    report.headline
    report.card checkpoint.saving commands.doctor report.html_report recipe.recipe report.environment
    report.comparison measure.evaluator measure.inspection
    report.figures run.inspecting
    report.inspection_files
    run.evaluation run.preparation
    run.pipeline
    plan.rehearsal
    run.replay
    study.*
    recipe.schema
    testing.*
    commands.console
    commands.*
    cli
    __main__
"""
FOLDERS = ("similarity", "mergers", "pruners", "recovery", "builtin")
OWN_HELPERS = (*FOLDERS, "measure", "commands", "testing", "study")
RULED_FOLDERS = ("similarity", "mergers", "pruners", "recovery")


class Import(NamedTuple):
    line: int
    target: str
    runtime: bool


class Module(NamedTuple):
    """A module by its name without `swm.`; the package itself is `swm`."""

    name: str
    file: Path
    tree: ast.Module

    @property
    def folder(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_strategy(self) -> bool:
        return self.folder in FOLDERS

    def at(self, node: ast.AST) -> str:
        return f"{self.file.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def _modules() -> list[Module]:
    found = []
    for file in sorted((ROOT / "swm").rglob("*.py")) + [f for d in RULED_FOLDERS for f in (ROOT / d).rglob("*.py")]:
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts[0] == "swm" and parts[1] in RULED_FOLDERS:
            continue  # reached through a link; counted where it really is
        name = ".".join(parts[1:] if parts[0] == "swm" else parts).removesuffix("__init__").rstrip(".") or "swm"
        found.append(Module(name, file, ast.parse(file.read_text(encoding="utf-8"))))
    return found


MODULES = _modules()
NAMES = {module.name for module in MODULES}


def _rank(name: str) -> int | None:
    lines = [line.split() for line in RANKS.split("\n")]
    for rank, line in enumerate(lines):
        if name in line:
            return rank
    for rank, line in enumerate(lines):
        if any(word.endswith(".*") and f"{name}.".startswith(word[:-1]) for word in line):
            return rank
    return None


def _imports(module: Module) -> Iterator[Import]:
    """Every import of something in swm, wherever it stands in the file."""
    unseen: list[tuple[ast.AST, bool]] = [(module.tree, True)]
    while unseen:
        node, runtime = unseen.pop()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.at(node)}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = []
        for name in names:
            if name.split(".")[0] == "swm":
                yield Import(getattr(node, "lineno", 0), _module_of(name), runtime)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            unseen += [(child, False) for child in node.body]
            unseen += [(child, runtime) for child in node.orelse]
        else:
            unseen += [(child, runtime) for child in ast.iter_child_nodes(node)]


def _module_of(dotted: str) -> str:
    """The module that `import a.b` or `from a import b` reads, b being a module or a name in it."""
    name = dotted.removeprefix("swm").lstrip(".")
    while name and name not in NAMES:
        name = name.rpartition(".")[0]
    return name or "swm"


def _literals_of_others(module: Module) -> set[int]:
    """Literals that are no strategy's name whatever they say: a kind, a torch function's `reduction`."""
    nodes = list(ast.walk(module.tree))
    kinds = [n.value for n in nodes if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "kind"]
    reductions = [n.value for n in nodes if isinstance(n, ast.keyword) and n.arg == "reduction"]
    return {id(value) for value in (*kinds, *reductions)}


def _literals(module: Module) -> Iterator[ast.Constant]:
    """String literals that are no docstrings."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node


def test_every_module_has_a_rank() -> None:
    missing = [module.name for module in MODULES if _rank(module.name) is None]
    assert not missing, f"give {missing} a place in RANKS"


def test_every_rank_has_a_module() -> None:
    listed = {name for name in RANKS.split() if not name.endswith(".*")}
    assert not listed - NAMES, "RANKS names modules that do not exist"


def test_imports_point_down_only() -> None:
    wrong = []
    for module in MODULES:
        for line, target, runtime in _imports(module):
            own_folder = module.folder in OWN_HELPERS and target.partition(".")[0] == module.folder
            if not runtime or own_folder:
                continue
            mine, theirs = _rank(module.name), _rank(target)
            if mine is not None and theirs is not None and theirs >= mine:
                wrong.append(f"{module.file.relative_to(ROOT)}:{line} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_the_core_imports_no_strategy() -> None:
    wrong = [
        f"{module.file.relative_to(ROOT)}:{line} imports {target}"
        for module in MODULES
        for line, target, _ in _imports(module)
        if target.partition(".")[0] in FOLDERS and module.folder != target.partition(".")[0]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_core_says_no_strategy_name(plugins: Plugins) -> None:
    names = {entry.strategy.name for entry in plugins.registry.entries() if entry.origin == "swm"}
    wrong = [
        f"{module.at(literal)} says '{literal.value}'"
        for module in MODULES
        if not module.is_strategy
        for literal in _literals(module)
        if literal.value in names and id(literal) not in _literals_of_others(module)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_family_rows_know_module_names() -> None:
    paths = [path for row in BUILTIN_FAMILIES for path in (row.layers, *row.tail, *row.projections.values())]
    parts = {part for path in paths for part in path.split(".")}
    # Plain words such as `mlp` or `layers` are roles and fields of ours as well.
    told = {part for part in parts if re.search(r"[_\d]", part)} | {
        t for row in BUILTIN_FAMILIES for t in row.model_types
    }
    assert {"q_proj", "gate_proj", "self_attn", "llama"} <= told
    wrong = []
    for module in MODULES:
        if module.name == "model.families":
            continue
        words = [(literal, re.split(r"[^\w]+", literal.value)) for literal in _literals(module)]
        words += [(node, [node.attr]) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)]
        wrong += [f"{module.at(node)} says {sorted(told & set(found))}" for node, found in words if told & set(found)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_library_code_neither_prints_nor_pickles(module: Module) -> None:
    wrong = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            if {name.split(".")[0] for name in names} & {"pickle", "cloudpickle", "dill", "joblib", "shelve"}:
                wrong.append(f"{module.at(node)} imports a pickler")
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("print", "eval", "exec", "torch.save", "torch.load"):
                wrong.append(f"{module.at(node)} calls {called}")
    assert not wrong, "\n".join(wrong)


def test_each_strategy_file_holds_one_strategy_named_after_it(plugins: Plugins) -> None:
    """A stage has its step beside it; helper files hold none."""
    registered = {entry.strategy for entry in plugins.registry.entries() if entry.origin == "swm"}
    by_module = defaultdict(list)
    for strategy in registered:
        by_module[strategy.__module__].append(strategy)
    for module in MODULES:
        if not module.is_strategy:
            continue
        loaded = importlib.import_module(f"swm.{module.name}")
        own = [c for c in vars(loaded).values() if inspect.isclass(c) and c.__module__ == loaded.__name__]
        forgotten = [c.__name__ for c in own if issubclass(c, Strategy) and c not in registered]
        assert not forgotten, f"{loaded.__name__} does not register {forgotten}"
        strategies = [c for c in by_module[loaded.__name__] if c.kind != "step"]
        assert len(strategies) <= 1, f"{loaded.__name__} holds {[c.__name__ for c in strategies]}"
        for strategy in strategies:
            stem = module.file.stem
            # FileText in file.py: a kind's name may follow where the bare word would say too little.
            assert strategy.__name__.lower().startswith(stem.replace("_", "")), f"{strategy.__name__} in {module.file}"
            if module.folder in RULED_FOLDERS:
                assert strategy.__name__.lower() == stem.replace("_", "")
                # random_units.py holds `random`: another kind has the file random.py.
                fits = f"{stem.replace('_', '-')}-".startswith(f"{strategy.name}-")
                assert fits, f"'{strategy.name}' in {module.file}"


def test_no_public_name_is_a_module_too() -> None:
    # Python sets `swm.NAME` to the module once anything imports it, in place of what is promised under that name.
    # `swm.run.replay` is one: nothing in swm or its plugins takes it from there.
    assert not NAMES & set(swm.__all__)
