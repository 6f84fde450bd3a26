"""The plugins that a plan names: missing ones are told with the way to them, and none runs unless the user says so."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from swm.builtin.steps.merge import MergeStep
from swm.errors import PlanError
from swm.plan.diff import diff_plans
from swm.plan.needs import check_needs, trusted_files
from swm.plan.plan import Plan, PlannedStage
from swm.plan.reading import read_plan
from swm.plugins.loading import load_plugins
from swm.plugins.needs import PluginNeeds, needed_plugins
from swm.plugins.registry import Registry

TIES = """
from dataclasses import dataclass
from typing import ClassVar, final
from pathlib import Path
import swm

Path("ran").touch()

@final
@dataclass(frozen=True)
class Mine(swm.LayerMerger):
    name: ClassVar[str] = "mine"

    def merge(self, window):
        return window.states[0]

@swm.hookimpl
def swm_register(register):
    register(Mine)
"""
MODEL = {"source": "m", "fingerprint": "f", "model_type": "llama", "dtype": "float32", "layers": 4, "parameters": 9}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin file in the working folder, which leaves a trace where it runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(TIES)
    return Path("mine.py")


@pytest.fixture
def plan(plugin: Path) -> Path:
    """A plan that was made with it, in a folder of its own."""
    registry = load_plugins([plugin]).registry
    merger: Any = registry.build("merger", "mine")
    steps = [MergeStep("2-3", 2, merger)]
    needed = needed_plugins(steps, registry, "llama", "m")
    made = Plan(MODEL, [PlannedStage("depth", {}, steps)], {}, 0, plugins=needed)
    Path("out").mkdir()
    made.write(Path("out/plan.yaml"))
    Path("ran").unlink()
    return Path("out/plan.yaml")


def test_a_plan_names_the_file_with_its_hash_and_what_it_takes_from_it(plan: Path, plugin: Path) -> None:
    digest = hashlib.sha256(plugin.read_bytes()).hexdigest()
    named = [{"path": "mine.py", "sha256": digest, "provides": ["merger mine"]}]
    assert yaml.safe_load(plan.read_text())["plugins"] == named


def test_a_plan_without_plugins_says_nothing_of_them() -> None:
    registry = load_plugins().registry
    assert needed_plugins([MergeStep("2-3", 2, registry.build("merger", None))], registry, "llama", "m") == []
    assert "plugins" not in Plan(MODEL, [], {}, 0).to_data()


def test_a_missing_plugin_is_told_with_the_way_to_it_and_does_not_run(plan: Path) -> None:
    with pytest.raises(
        PlanError,
        match=r"needs plugins .*merger mine of plugin file mine.py .*--plugin mine.py .*as it was\).*--plan-plugins$",
    ):
        read_plan(plan, load_plugins().registry)
    Path("mine.py").write_text(TIES + "# changed\n")
    with pytest.raises(PlanError, match="has been changed since"):
        read_plan(plan, load_plugins().registry)
    Path("mine.py").unlink()
    with pytest.raises(PlanError, match="it is not here; name it with --plugin FILE"):
        read_plan(plan, load_plugins().registry)
    assert not Path("ran").exists()


def test_a_user_may_trust_the_files_of_a_plan_that_are_as_they_were(plan: Path) -> None:
    assert trusted_files(plan) == [Path("mine.py")]
    Path("mine.py").write_text(TIES + "# changed\n")
    with pytest.raises(PlanError, match=r"mine.py has another hash"):
        trusted_files(plan)
    Path("mine.py").unlink()
    with pytest.raises(PlanError, match=r"names plugin file mine.py, and it is not here"):
        trusted_files(plan)
    assert not Path("ran").exists()


def test_code_that_changed_since_is_noted_and_read(plan: Path, plugin: Path) -> None:
    same = read_plan(plan, load_plugins([plugin]).registry)
    assert same.notes == []
    plugin.write_text(TIES + "# changed\n")
    changed = read_plan(plan, load_plugins([plugin]).registry)
    [note] = changed.notes
    assert note.startswith("merger mine was that of plugin file mine.py (sha256 ")
    assert diff_plans(same, changed) == []


def test_a_distribution_is_named_with_its_version() -> None:
    entry = {"distribution": "swm-none", "version": "1.2", "provides": ["step none"]}
    with pytest.raises(PlanError, match=r"step none of swm-none 1.2: pip install swm-none==1.2$"):
        check_needs(PluginNeeds([entry], Registry()), "the plan")
    entry = {"distribution": "torch", "version": "1.2", "provides": ["step none"]}
    with pytest.raises(PlanError, match=r"is installed and not in use"):
        check_needs(PluginNeeds([entry], Registry()), "the plan")


def test_families_and_models_count_where_a_plan_is_applied() -> None:
    entry = {"distribution": "swm-none", "version": "1.2", "provides": ["family of odd", "model tiny"]}
    needs = PluginNeeds([entry], Registry())
    assert needs.missing(("family", "model")) == []
    assert needs.missing()[0].startswith("family of odd, model tiny of swm-none 1.2")


def test_a_class_that_was_given_in_python_is_named_as_that(plugin: Path) -> None:
    merger: Any = load_plugins([plugin]).registry.build("merger", "mine")
    registry = load_plugins().registry
    [entry] = needed_plugins([MergeStep("2-3", 2, merger)], registry, "llama", "m")
    assert entry["provides"] == ["merger mine"]
    with pytest.raises(PlanError, match=r"Mine, given in Python: write it into a plugin file"):
        check_needs(PluginNeeds([entry], registry), "the plan")


@pytest.mark.parametrize(
    "entry",
    ["x", {"path": "mine.py"}, {"path": 3, "sha256": "", "provides": []}, {"distribution": "d", "provides": ["a b"]}],
)
def test_entries_that_swm_does_not_write_are_refused(plan: Path, entry: Any) -> None:
    data = yaml.safe_load(plan.read_text())
    plan.write_text(yaml.safe_dump({**data, "plugins": [entry]}))
    for read in (trusted_files, lambda file: read_plan(file, load_plugins().registry)):
        with pytest.raises(PlanError, match="plugins"):
            read(plan)
