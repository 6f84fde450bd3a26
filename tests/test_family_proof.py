"""What the table of model families says is so: the real pipeline on the models of the zoo, and the page as written."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import family_census
import house
import pytest
import transformers
from family_proof import ALL, CUTS, RECORD, FaultError, Proof, record
from fresh_processes import FreshProcesses, fresh_processes
from zoo import CAUSAL

from swm.checkpoint import verification
from swm.plugins.loading import Plugins

# One of each sort of layer, with the cuts that are most likely to break there; the slow test has all.
SAMPLE = {
    "llama": ("any layer", "window", "query heads"),
    "gemma3_text": ("last layer", "kv heads"),
    "gpt2": ("mlp", "kv heads"),
    "falcon, new": ("any layer",),
    "mixtral": ("window", "experts"),
    "qwen3_5_text": ("any layer", "mlp"),
    "bamba": ("last layer",),
    "nemotron_h": ("window",),
    "internvl": ("any layer",),
}


@pytest.fixture(scope="module")
def fresh() -> Iterator[FreshProcesses]:
    with fresh_processes() as processes:
        yield processes


@pytest.fixture(scope="module")
def recorded() -> dict[str, dict[str, object]]:
    entries: dict[str, dict[str, object]] = json.loads(RECORD.read_text(encoding="utf-8"))
    return entries


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("name", SAMPLE)
def test_what_is_recorded_of_a_sort_of_layer_is_so(
    name: str, recorded: dict[str, dict[str, dict[str, object]]], plugins: Plugins, tmp_path: Path
) -> None:
    entry = record(name, tmp_path, plugins, SAMPLE[name])
    # The slow test compares the reasons of refusals too.
    for column in SAMPLE[name]:
        outcomes = [cuts[column] for cuts in (entry["cuts"], recorded[name]["cuts"])]
        assert len({str(outcome.get("parameters")) for outcome in outcomes}) == 1, outcomes


@pytest.mark.slow
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("name", ALL)
def test_what_is_recorded_is_so(
    name: str, recorded: dict[str, dict[str, dict[str, object]]], plugins: Plugins, tmp_path: Path
) -> None:
    known = {column: cut for column, cut in recorded[name]["cuts"].items() if "fails" not in cut}  # type: ignore[operator]
    entry = record(name, tmp_path, plugins, tuple(known))
    assert entry == {**recorded[name], "cuts": known}
    if len(known) < len(CUTS):
        pytest.xfail(f"{name}: {sorted(set(CUTS) - set(known))} fail")


def test_the_record_has_all_models_with_all_cuts(recorded: dict[str, dict[str, dict[str, object]]]) -> None:
    assert list(recorded) == list(ALL)
    assert all(list(entry["cuts"]) == list(CUTS) for entry in recorded.values())


def test_every_refusal_is_one_line_that_says_what_of_which_model(
    recorded: dict[str, dict[str, dict[str, dict[str, str]]]],
) -> None:
    for entry in recorded.values():
        for outcome in entry["cuts"].values():
            reason = outcome.get("refused", "a line")
            assert "\n" not in reason
            assert 5 < len(reason) < 400


def test_the_page_shows_the_record(monkeypatch: pytest.MonkeyPatch, recorded: dict[str, object]) -> None:
    monkeypatch.syspath_prepend(house.ROOT / "docs" / "_reference")
    page = importlib.import_module("families_page")
    for name in ("families_page", "census_page"):
        monkeypatch.delitem(sys.modules, name)
    shown = page.page(recorded, page.census())
    assert page.PAGE.read_text(encoding="utf-8") == shown, "run docs/_reference/families_page.py"


def test_the_census_has_all_causal_model_types() -> None:
    census = json.loads(family_census.RECORD.read_text(encoding="utf-8"))
    if census["transformers"] != transformers.__version__:
        pytest.skip(f"the census is of transformers {census['transformers']}")
    assert list(census["types"]) == list(family_census.TYPES)


CENSUS = ("biogpt", "bert")


@pytest.mark.parametrize(
    "name", [*CENSUS, *(pytest.param(name, marks=pytest.mark.slow) for name in ("mixtral", "afmoe", "diffllama"))]
)
def test_what_the_census_says_of_a_type_is_so(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    census = json.loads(family_census.RECORD.read_text(encoding="utf-8"))
    if census["transformers"] != transformers.__version__:
        pytest.skip(f"the census is of transformers {census['transformers']}")
    monkeypatch.setenv("SWM_CACHE", str(tmp_path))
    assert family_census.entry(name) == census["types"][name]


def test_the_readme_has_the_number_of_architectures(recorded: dict[str, dict[str, dict[str, object]]]) -> None:
    count = sum("parameters" in recorded[name]["cuts"]["any layer"] for name in CAUSAL)
    assert (
        f"[{count} architectures of transformers](docs/reference/families.md)" in (house.ROOT / "README.md").read_text()
    )


def test_the_readme_has_the_numbers_of_the_census(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(house.ROOT / "docs" / "_reference")
    page = importlib.import_module("census_page")
    monkeypatch.delitem(sys.modules, "census_page")
    text = " ".join((house.ROOT / "README.md").read_text().split())
    proven, decoders = page.layers_of(page.census())
    assert (
        f"the test proves layers of {proven} of the {decoders} decoders that transformers' causal mapping has" in text
    )


def test_a_folder_that_is_not_the_model_in_memory_is_a_fault(
    fresh: FreshProcesses, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = verification.probe
    monkeypatch.setattr("swm.checkpoint.saving.probe", lambda *given: _moved(probe(*given)))
    with pytest.raises(FaultError, match="the saved model is not the one in memory: logits differ by"):
        Proof("llama", tmp_path, plugins).outcome(CUTS["last layer"])


def _moved(probe: verification.Probe) -> verification.Probe:
    probe.logits.add_(1e-3)
    return probe
