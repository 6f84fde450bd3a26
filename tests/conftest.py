"""What all tests share: tiny models of every family, the tiny real model, and no network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import house

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from fresh_processes import FreshProcesses
from torch import Tensor
from transformers import PreTrainedModel

from swm.model.families import find_family
from swm.model.view import ModelView
from swm.plugins.loading import Plugins, load_plugins
from swm.testing import FAMILIES, VARIANTS, tiny_ids, tiny_model

ROOT = house.ROOT
SHARED = ROOT.parent / "shared"
THREADS = torch.get_num_threads()


# Grouped queries, norms behind each part with sliding windows, transposed weights with one matrix for queries, keys and
# values, biases everywhere. What runs on every family runs on the others among the slow tests; the kit's own tests,
# which are the longest, on the first and the third by default.
EVERY_SORT = ("llama", "gemma2", "gpt2", "opt")
OF_THE_KIT = ("llama", "gpt2")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run the real model come first: begun last, the longest would leave all workers but one idle."""
    items.sort(key=lambda item: item.get_closest_marker("real") is None)
    for item in items:
        family = _family_of(item)
        if family in FAMILIES and family not in (OF_THE_KIT if item.path.name == "test_conformance.py" else EVERY_SORT):
            item.add_marker(pytest.mark.slow)


def _family_of(item: pytest.Item) -> str:
    """The family that a test is asked about, by its parameters or, for the kit, by its name."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return ""
    if item.path.name == "test_conformance.py":
        return item.callspec.id.split(" ")[0]
    return str(
        next((item.callspec.params[name] for name in ("family", "any_model") if name in item.callspec.params), "")
    )


@pytest.fixture(autouse=True)
def _environment_of_a_command_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the `swm` command sets for the processes below it is undone when a test ran the command in this process."""
    monkeypatch.setenv("PYTHONSAFEPATH", "", prepend=None)
    monkeypatch.delenv("PYTHONSAFEPATH")


@pytest.fixture(autouse=True)
def _a_relative_path_leads_into_a_folder_of_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What lies where the tests were started, say an `out` of a run by hand, cannot change a test, nor a test it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def forked() -> Iterator[Callable[[], FreshProcesses]]:
    """Gives the process from which fresh ones are forked; it is started when it is first wanted."""
    started: list[FreshProcesses] = []

    def process() -> FreshProcesses:
        if not started:
            started.append(FreshProcesses(os.environ))
        return started[0]

    yield process
    for one in started:
        one.close()


@pytest.fixture(autouse=True)
def _fresh_processes_are_forked(
    request: pytest.FixtureRequest, forked: Callable[[], FreshProcesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of a saved folder runs the same file in a process as fresh, without seconds of imports each time.

    Tests with the marker `own_process` start a Python each, as users do.
    """
    if not request.node.get_closest_marker("own_process"):
        monkeypatch.setattr(
            "swm.checkpoint.verification.in_fresh_process",
            lambda command, environment: forked()(command, environment),
        )


@pytest.fixture(scope="session")
def tiny() -> Callable[..., PreTrainedModel]:
    """Builds a fresh tiny model of a family (`config.model_type`) or variant: 6 layers, hidden size 32."""
    return tiny_model


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return load_plugins()


@pytest.fixture(scope="session")
def view_of(plugins: Plugins) -> Callable[[PreTrainedModel], ModelView]:
    """The view of a model, with the family row that the built-in plugins have for it."""
    return lambda model: ModelView(model, find_family(model.config, plugins.registry.families))


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """The name of every family in turn."""
    return str(request.param)


@pytest.fixture(params=[*FAMILIES, *VARIANTS])
def any_model(request: pytest.FixtureRequest) -> PreTrainedModel:
    """A fresh tiny model of every family and variant in turn."""
    return tiny_model(str(request.param))


@pytest.fixture
def view(any_model: PreTrainedModel, view_of: Callable[[PreTrainedModel], ModelView]) -> ModelView:
    """The view of every family and variant in turn."""
    return view_of(any_model)


@pytest.fixture
def llama(view_of: Callable[[PreTrainedModel], ModelView]) -> ModelView:
    """The view of a fresh tiny Llama."""
    return view_of(tiny_model("llama"))


@pytest.fixture(scope="session")
def ids() -> Tensor:
    """Token ids `[5, 12]` without special tokens."""
    return tiny_ids()


@pytest.fixture(scope="session")
def stories() -> Path:
    """A real Llama of 5 layers that answers in milliseconds."""
    folder = SHARED / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("the tiny real model is not on this machine")
    return folder


@pytest.fixture(autouse=True)
def _same_numbers(request: pytest.FixtureRequest) -> None:
    torch.manual_seed(0)
    # Threads that wait for one another make tiny models ten times slower on a busy machine.
    torch.set_num_threads(THREADS if request.node.get_closest_marker("real") else 1)
