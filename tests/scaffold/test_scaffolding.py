"""`swm new-plugin`: what it writes installs, passes its own tests, and is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import pytest
from typer.testing import CliRunner

from swm.cli import app, main
from swm.errors import PluginError
from swm.plugins.loading import Plugins
from swm.scaffold import scaffolding
from swm.scaffold.scaffolding import PLAN, USES, kinds, new_plugin


def run(*command: str | Path, cwd: Path, site: Path, **variables: str) -> str:
    """Standard output of a command that must succeed, with the packages in `site`."""
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **variables}
    environment.pop("SWM_PLUGINS", None)
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_there_is_a_template_for_every_kind_that_authors_write(plugins: Plugins) -> None:
    """Steps come with their stage, and a family is a row of data that is written for a model."""
    registered = {entry.strategy.kind for entry in plugins.registry.entries()}
    assert kinds() == sorted(registered - {"step"})


def test_folders_of_other_programs_beside_the_templates_are_no_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation with pip compiles the modules, and leaves __pycache__ beside the templates."""
    known, copied = kinds(), tmp_path / "scaffold"
    copytree(str(scaffolding._scaffold()), copied)
    (copied / "__pycache__").mkdir(exist_ok=True)
    (copied / "__pycache__" / "scaffolding.cpython-311.pyc").write_bytes(b"code")
    (copied / ".idea").mkdir()
    monkeypatch.setattr(scaffolding, "_scaffold", lambda: copied)
    assert kinds() == known


@pytest.mark.packaging
@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds())
def test_the_package_installs_passes_its_own_tests_and_is_found(kind: str, plugins: Plugins, tmp_path: Path) -> None:
    folder = new_plugin("my-idea", kind, plugins.registry, tmp_path / "swm-my-idea")
    site = tmp_path / "site"
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", site)
    run(sys.executable, "-m", "pip", "install", *options, folder, cwd=tmp_path, site=site)
    tested = run(sys.executable, "-m", "pytest", "-q", cwd=folder, site=site)
    assert " passed" in tested
    assert "failed" not in tested
    swm = (sys.executable, "-m", "swm")
    [mine] = [
        e
        for e in json.loads(run(*swm, "strategies", kind, "--json", cwd=tmp_path, site=site))
        if "my-idea" in e["origin"]
    ]
    assert (mine["kind"], mine["name"]) == (kind, "my-idea")
    assert "swm-my-idea 0.1.0" in run(*swm, "doctor", "--json", cwd=tmp_path, site=site)
    tiny = tiny_folder(tmp_path, kind)
    if kind == "executor":
        shown = run(*swm, "study", "run", "study.yaml", "--set", f"recipe.model={tiny}", cwd=folder, site=site)
    elif kind == "model":
        shown = run(*swm, "inspect", "my-idea", cwd=folder, site=site, MY_IDEA_MODEL=str(tiny))
    else:
        shown = run(*swm, *USES.get(kind, PLAN).split()[1:3], "--set", f"model={tiny}", cwd=folder, site=site)
    assert shown


def tiny_folder(parent: Path, kind: str) -> Path:
    """A folder with a tiny model that a strategy of the kind can change."""
    from swm.testing import tiny_model, tiny_tokenizer

    folder = parent / "tiny"
    name = "mixtral" if kind == "expert-merger" else "llama"
    tiny_model(name, max_position_embeddings=512).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", kinds())
def test_the_code_is_clean(kind: str, plugins: Plugins, tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    folder = new_plugin("my-idea", kind, plugins.registry, tmp_path / "swm-my-idea")
    ruff = (sys.executable, "-m", "ruff")
    run(*ruff, "check", "--isolated", "--line-length=120", "--select=E,F,W,I,B,UP,N", ".", cwd=folder, site=folder)
    run(*ruff, "format", "--isolated", "--line-length=120", "--check", ".", cwd=folder, site=folder)


def test_names_are_made_for_python(plugins: Plugins, tmp_path: Path) -> None:
    folder = new_plugin("mean-2-norm", "merger", plugins.registry, tmp_path / "deep" / "er")
    assert (folder / "src" / "swm_mean_2_norm" / "mean_2_norm.py").is_file()
    assert "class Mean2Norm(swm.LayerMerger)" in (folder / "src" / "swm_mean_2_norm" / "mean_2_norm.py").read_text()
    assert (folder / ".gitignore").is_file()
    assert "${" not in "".join(file.read_text() for file in folder.rglob("*") if file.is_file())
    assert [entry.name for entry in folder.parent.iterdir()] == ["er"]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("mine", "mergr", r"unknown kind 'mergr'.*Did you mean 'merger'"),
        ("mine", "common", "unknown kind 'common'"),
        ("My_Metric", "similarity", r"name: found 'My_Metric'; allowed are small letters.* such as my-metric"),
        ("2nd", "similarity", "allowed are small letters"),
        ("a--b", "similarity", "allowed are small letters"),
        ("a" * 61, "similarity", "60 characters at most"),
        ("lambda", "similarity", "a word of the Python language"),
        ("null", "similarity", "'null', which YAML does not read as text"),
        ("any", "similarity", "its class Any would hide one"),
        ("cosine", "similarity", "there is a similarity 'cosine' already, from swm"),
    ],
)
def test_what_cannot_be_written_is_refused(
    name: str, kind: str, message: str, plugins: Plugins, tmp_path: Path
) -> None:
    with pytest.raises(PluginError, match=message):
        new_plugin(name, kind, plugins.registry, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_stage_brings_a_step_of_its_name(plugins: Plugins, tmp_path: Path) -> None:
    [step, *_] = set(plugins.registry.names("step")) - set(plugins.registry.names("stage"))
    with pytest.raises(PluginError, match=f"there is a step '{step}' already, from swm"):
        new_plugin(step, "stage", plugins.registry, tmp_path / "out")


def test_the_name_of_an_installed_package_is_refused(
    plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "swm_lately.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match="a package swm_lately is installed already"):
        new_plugin("lately", "merger", plugins.registry, tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_one_clear_error(plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PluginError, match="file/out cannot be written: "):
        new_plugin("mine", "merger", plugins.registry, tmp_path / "file" / "out")


def test_nothing_is_overwritten(plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(PluginError, match="out exists already; choose another name, or another folder with --output"):
        new_plugin("mine", "merger", plugins.registry, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_command_says_what_comes_next_and_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert all(kind in runner.invoke(app, ["new-plugin", "--help"]).output for kind in kinds())
    done = runner.invoke(app, ["new-plugin", "my-idea", "--kind", "width"])
    assert done.exit_code == 0
    assert "pip install -e 'swm-my-idea[test]'" in done.output
    assert (tmp_path / "swm-my-idea" / "pyproject.toml").is_file()
    monkeypatch.setattr(sys, "argv", ["swm", "new-plugin", "my-idea", "--kind", "width"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_a_name_of_another_kind_is_free(plugins: Plugins, tmp_path: Path) -> None:
    assert new_plugin("cosine", "merger", plugins.registry, tmp_path / "out").is_dir()
