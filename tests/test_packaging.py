"""The repository's folders become one package, `swm`, however it is installed.

Nothing here needs the network: builds use the setuptools of the running environment, and new environments borrow its
other packages.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import house
import pytest

from swm.plugins.loading import Plugins

ROOT = house.ROOT
LINKED = ("mergers", "pruners", "recovery", "similarity")

pytestmark = pytest.mark.packaging


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SWM_PLUGINS")}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout without what git ignores, links as links."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()]
    copy = tmp_path_factory.mktemp("work") / "checkout"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", *ignored))
    return copy


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the running environment has installed, except swm itself."""
    links = tmp_path_factory.mktemp("dependencies")
    for source in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(source).iterdir():
            if not entry.name.startswith(("swm", "__editable__")) and entry.suffix != ".pth":
                (links / entry.name).symlink_to(entry)
    return links


@pytest.fixture
def environment(tmp_path: Path, dependencies: Path) -> Path:
    """The Python of a new virtual environment without swm that sees the dependencies."""
    run(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=tmp_path)
    [packages] = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{dependencies}\n")
    return tmp_path / "venv" / "bin" / "python"


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the source distribution."""
    return build(checkout, tmp_path_factory.mktemp("dist"))


def build(source: Path, target: Path) -> Path:
    """What `python -m build` makes of a folder: a source distribution, and a wheel from that."""
    need("build", 1)
    need("setuptools", 77)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, source, cwd=target)
    [made] = target.glob("*.whl")
    assert len(list(target.glob("*.tar.gz"))) == 1
    return made


def need(tool: str, least: int) -> None:
    """Skip where a build tool is missing or too old."""
    try:
        found = importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        found = "0"
    if int(found.split(".")[0]) < least:
        pytest.skip(f"building swm needs {tool}>={least} (it is in the test extra); found {found}")


def install(python: Path, *what: str | Path) -> None:
    """`pip install --no-deps` into another environment, with no index."""
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run(*pip, "--no-index", "--no-deps", "--no-build-isolation", *what, cwd=python.parent)


def data_files(folder: Path) -> set[str]:
    """What a wheel holds besides Python: the marker of types, templates, presets, starters, rows of the tiny models."""
    templates = [*(folder / "swm/report/templates").iterdir(), *(folder / "swm/scaffold").rglob("*.tmpl")]
    presets = [*(folder / "swm/study/presets").glob("*.yaml"), *(folder / "swm/recipe/starters").glob("*.yaml")]
    chosen = [*(folder / "swm/choosing").glob("*.yaml"), *(folder / "swm/choosing").glob("*.json")]
    found = [*chosen, *templates, *presets, *(folder / "swm/testing").glob("*.json")]
    return {path.relative_to(folder).as_posix() for path in found} | {"swm/py.typed"}


def python_files(folder: Path) -> set[str]:
    """The Python files of swm by the place that they have in a wheel."""
    return {
        f"{'' if top == 'swm' else 'swm/'}{file.relative_to(folder).as_posix()}"
        for top in ("swm", *LINKED)
        for file in (folder / top).rglob("*.py")
        if top != "swm" or file.relative_to(folder).parts[1] not in LINKED
    }


def in_wheel(wheel: Path) -> set[str]:
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    return set(names)


def where_swm_is(python: Path, cwd: Path) -> Path:
    code = "import swm, swm.pruners.last, swm.similarity.cosine; print(swm.__file__)"
    return Path(run(python, "-c", code, cwd=cwd).strip())


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with a file that would shadow a package of ours, were it not inside swm."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "similarity.py").write_text("raise ImportError('the wrong file')\n")
    return folder


def test_wheel_from_the_source_distribution_is_complete(checkout: Path, wheel: Path) -> None:
    names = in_wheel(wheel)
    code = {name for name in names if ".dist-info/" not in name}
    assert code == python_files(checkout) | data_files(checkout)
    assert {name.split("/")[0] for name in code} == {"swm"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_clone_without_links_still_builds_a_full_wheel(checkout: Path, tmp_path: Path) -> None:
    """Where git cannot make links it writes small text files that hold the target."""
    clone = tmp_path / "clone"
    shutil.copytree(checkout, clone, symlinks=True)
    for name in LINKED:
        link = clone / "swm" / name
        target = os.readlink(link)
        link.unlink()
        link.write_text(target)
    code = {name for name in in_wheel(build(clone, tmp_path)) if ".dist-info/" not in name}
    assert code == python_files(checkout) | data_files(checkout)


def test_installed_command_works_in_another_folder(
    wheel: Path, environment: Path, elsewhere: Path, plugins: Plugins
) -> None:
    install(environment, wheel)
    assert environment.parents[1] in where_swm_is(environment, elsewhere).parents
    listed = json.loads(run(environment.with_name("swm"), "strategies", "--json", cwd=elsewhere))
    assert {(entry["kind"], entry["name"]) for entry in listed if entry["origin"] == "swm"} == {
        (entry.strategy.kind, entry.strategy.name) for entry in plugins.registry.entries() if entry.origin == "swm"
    }
    run(environment.with_name("swm"), "new-plugin", "my-idea", "--kind", "depth", cwd=elsewhere)
    assert {".gitignore", "pyproject.toml", "src", "tests"} <= {p.name for p in (elsewhere / "swm-my-idea").iterdir()}


def test_editable_install_runs_the_checkout(checkout: Path, environment: Path, elsewhere: Path) -> None:
    need("setuptools", 77)
    install(environment, "--editable", checkout)
    assert where_swm_is(environment, elsewhere) == checkout / "swm" / "__init__.py"
    assert "compress" in run(environment.with_name("swm"), "--help", cwd=elsewhere)
    # A new file needs no new installation.
    (checkout / "recovery" / "fresh.py").write_text("")
    try:
        run(environment, "-c", "import swm.recovery.fresh", cwd=elsewhere)
    finally:
        (checkout / "recovery" / "fresh.py").unlink()


def test_bare_checkout_runs_at_its_root(checkout: Path, environment: Path) -> None:
    assert where_swm_is(environment, checkout) == checkout / "swm" / "__init__.py"
    assert "compress" in run(environment, "-m", "swm", "--help", cwd=checkout)
