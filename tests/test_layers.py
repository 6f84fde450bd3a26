"""The architecture as rules: who may import whom, and what no file may say."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator

import house
import pytest
from house import Module

import swm
from swm.builtin.families import BUILTIN_FAMILIES
from swm.interfaces.strategy import Strategy
from swm.plugins.loading import Plugins

RULED_FOLDERS = house.LINKED
STRATEGIES = (*RULED_FOLDERS, "builtin")
MODULES = house.MODULES


def _is_strategy(module: Module) -> bool:
    return module.room in STRATEGIES


def _literals_of_others(module: Module) -> set[int]:
    """Literals that are no strategy's name whatever they say: a kind, a torch function's `reduction`, a level."""
    nodes = list(ast.walk(module.tree))
    kinds = [n.value for n in nodes if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "kind"]
    reductions = [n.value for n in nodes if isinstance(n, ast.keyword) and n.arg == "reduction"]
    # How a folder is checked has a word of its own for all of it, in the one module that defines the levels.
    checks = [node for node in nodes if module.name == "checkpoint.level"]
    return {id(value) for value in (*kinds, *reductions, *checks)}


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


def test_every_room_has_a_rank_and_every_rank_a_room() -> None:
    assert set(house.RANKS) == {module.room for module in MODULES}


def test_imports_point_down_only() -> None:
    """Those for type checkers too."""
    assert house.upward() == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert house.circles(house.arrows()) == []


def test_a_circle_is_found() -> None:
    assert house.circles([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]) == [["a", "b", "c"]]


def test_nothing_inside_imports_swm_itself() -> None:
    """`import swm` promises names of everything, so whoever imports it depends on everything."""
    assert [source for source, target in house.arrows() if target == "swm"] == []


def test_the_core_imports_no_strategy() -> None:
    wrong = [
        f"{module.file.relative_to(house.ROOT)}:{line} imports {target}"
        for module in MODULES
        for line, target, _ in house.imports(module)
        if target.partition(".")[0] in STRATEGIES and not _is_strategy(module)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_is_longer_than_a_person_reads_at_once() -> None:
    assert [module.name for module in MODULES if module.lines > 250] == []


def test_the_core_says_no_strategy_name(plugins: Plugins) -> None:
    names = {entry.strategy.name for entry in plugins.registry.entries() if entry.origin == "swm"}
    wrong = [
        f"{module.at(literal)} says '{literal.value}'"
        for module in MODULES
        if not _is_strategy(module)
        for literal in _literals(module)
        if literal.value in names and id(literal) not in _literals_of_others(module)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_family_rows_know_module_names() -> None:
    paths = [path for row in BUILTIN_FAMILIES for path in (row.layers, *row.tail, *row.projections.values())]
    parts = {part for path in paths for part in path.split(".")}
    # Plain words such as `mlp` or `layers` are roles and fields of ours as well.
    model_types = {model_type for row in BUILTIN_FAMILIES for model_type in row.model_types}
    # One of them is also the name of a package that holds tasks.
    told = {part for part in parts if re.search(r"[_\d]", part)} | (model_types - {"olmo"})
    assert {"q_proj", "gate_proj", "self_attn", "llama"} <= told
    wrong = []
    for module in MODULES:
        # In GGUF files the rules of tokenizers have names, and some are those of models.
        if module.name.startswith(("model.families", "builtin.families", "loading.pre_tokenizers")):
            continue
        # A runtime has the name of a model, and so has a layout.
        texts = [(one, re.sub(r"llama\.cpp|nemotron-nas", "", one.value)) for one in _literals(module)]
        words = [(literal, re.split(r"[^\w]+", text)) for literal, text in texts]
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
        if not _is_strategy(module):
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
            if module.room in RULED_FOLDERS:
                assert strategy.__name__.lower() == stem.replace("_", "")
                # random_units.py holds `random`: another kind has the file random.py.
                fits = f"{stem.replace('_', '-')}-".startswith(f"{strategy.name}-")
                assert fits, f"'{strategy.name}' in {module.file}"


def test_no_public_name_is_a_module_too() -> None:
    # Python sets `swm.NAME` to the module once anything imports it, in place of what is promised under that name.
    # `swm.run.replay` is one: nothing in swm or its plugins takes it from there.
    assert not {module.name for module in MODULES} & set(swm.__all__)


def test_no_two_public_classes_have_one_name() -> None:
    places = defaultdict(list)
    for module in MODULES:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module.name)
    assert not {name: modules for name, modules in places.items() if len(modules) > 1}


def test_long_signatures_say_what_each_argument_is() -> None:
    """What a command's function says is the text of `--help`, and its options have texts of their own."""
    silent = []
    for module in MODULES:
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or module.room == "commands":
                continue
            parameters = [a.arg for a in (*node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls")]
            if len(parameters) > 3 and "Args:" not in (ast.get_docstring(node) or ""):
                silent.append(f"{module.at(node)} {node.name}")
    assert not silent, "\n".join(silent)


def test_locals_say_what_they_hold() -> None:
    nameless = [
        f"{module.at(node)} {node.id}"
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in ("found", "told")
    ]
    assert not nameless, "\n".join(nameless)


def test_values_in_texts_are_shortened() -> None:
    """`{value!r}` would print whole tensors and module trees; `swm.errors.quoted(value)` does not."""
    # A key of the cache, which nobody reads.
    keys = {"depth.memo"}
    found = [
        module.at(node)
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FormattedValue) and node.conversion == ord("r") and module.name not in keys
        if not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]
    assert not found, "write {quoted(value)} there"
