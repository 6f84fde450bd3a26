"""The cache of observations: by content, safe to share, bounded; results are the same bytes with and without it."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from swm import version
from swm.cache.observations import Observation, ObservationCache
from swm.interfaces.stage import StageContext
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline
from swm.run.result import RunResult

ABOUT = {"what": "numbers", "model": "m"}


def numbers(calls: list[int] | None = None) -> Observation:
    if calls is not None:
        calls.append(1)
    return Observation({"a": torch.arange(6.0).reshape(2, 3)}, {"best": 0.1})


def test_an_observation_is_made_once_and_comes_back_the_same(tmp_path: Path) -> None:
    cache, calls = ObservationCache(tmp_path / "cache"), list[int]()
    first = cache.observation(ABOUT, lambda: numbers(calls))
    again = ObservationCache(tmp_path / "cache").observation(dict(reversed(ABOUT.items())), lambda: numbers(calls))
    assert torch.equal(first.tensors["a"], again.tensors["a"])
    assert again.facts == {"best": 0.1}
    cache.observation({**ABOUT, "model": "n"}, lambda: numbers(calls))
    assert len(calls) == 2
    assert [entry.about["model"] for entry in cache.entries()] == ["m", "n"]


@pytest.mark.parametrize("content", [b"", b"torn", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_cannot_be_read_is_observed_again(tmp_path: Path, content: bytes) -> None:
    cache = ObservationCache(tmp_path)
    cache.observation(ABOUT, numbers)
    [entry] = cache.entries()
    entry.file.write_bytes(content)
    assert torch.equal(cache.observation(ABOUT, numbers).tensors["a"], numbers().tensors["a"])
    assert cache.observation(ABOUT, lambda: pytest.fail("it was written again")).facts == {"best": 0.1}


def test_observations_without_tensors_are_kept_too(tmp_path: Path) -> None:
    cache = ObservationCache(tmp_path)
    cache.observation(ABOUT, lambda: Observation({}, {"steps": []}))
    assert cache.observation(ABOUT, lambda: pytest.fail("it was kept")) == Observation({}, {"steps": []})


def test_numbers_survive_to_the_last_digit_and_torn_lines_do_not_spoil_others(tmp_path: Path) -> None:
    cache = ObservationCache(tmp_path)
    values = cache.values(ABOUT)
    values.put("third", 1 / 3)
    values.put("none", float("nan"))
    [entry] = cache.entries()
    with entry.file.open("a", encoding="utf-8") as lines:
        lines.write('\n["torn", 0.')
    cache.values(ABOUT).put("after", 2.0)
    found = cache.values(ABOUT)
    assert found.get("third") == 1 / 3
    assert found.get("none") != found.get("none")
    assert found.get("torn") is None
    assert found.get("after") == 2.0
    assert entry.about == ABOUT


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = ObservationCache(tmp_path)
    for i, name in enumerate("abc"):
        cache.observation({"model": name}, numbers)
        file = next(entry.file for entry in cache.entries() if entry.about["model"] == name)
        os.utime(file, (i, i))
    cache.observation({"model": "a"}, numbers)  # used, so that b is the oldest
    size = cache.entries()[0].size
    ObservationCache(tmp_path, limit=3 * size).observation({"model": "d"}, numbers)
    assert {entry.about["model"] for entry in cache.entries()} == {"a", "c", "d"}
    assert cache.shrink(0) == 3
    assert cache.entries() == []


def test_a_write_opens_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ObservationCache(tmp_path)
    cache.observation({"model": "a"}, numbers)
    [old] = cache.entries()
    os.utime(old.file, (1, 1))
    monkeypatch.setattr("swm.cache.observations._about", lambda file: pytest.fail(f"{file.name} was opened"))
    ObservationCache(tmp_path, limit=old.size).observation({"model": "b"}, numbers)
    assert not old.file.exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ObservationCache(tmp_path / "file" / "below")
    assert cache.observation(ABOUT, numbers).facts == {"best": 0.1}
    cache.values(ABOUT).put("x", 1.0)


def _many(folder: str, name: str) -> None:
    cache = ObservationCache(Path(folder), limit=2000)
    for i in range(40):
        found = cache.observation({"what": i % 7}, numbers)
        assert torch.equal(found.tensors["a"], numbers().tensors["a"])
        cache.values({"what": "v"}).put(f"{name}{i}", float(i))


def test_processes_share_a_folder(tmp_path: Path) -> None:
    workers = [multiprocessing.get_context("spawn").Process(target=_many, args=(str(tmp_path), n)) for n in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert not list(tmp_path.glob(".*"))


RECIPES: Mapping[str, list[dict[str, Any]]] = {
    "sliding": [{"depth": {"pruner": "sliding-window", "target": {"layers": 1}}}],
    "influence": [{"depth": {"pruner": "block-influence", "target": {"layers": 2}}}],
    "loss": [{"depth": {"pruner": "greedy-loss", "target": {"layers": 2}}}],
    "fitted": [{"depth": {"pruner": "best-windows", "target": {"layers": 2}}}],
    "width": [{"width": {"pruner": "llm-pruner", "target": {"ratio": 0.2}}}],
    "bias": [{"width": {"pruner": "flap", "target": {"ratio": 0.1}}}],
    "all": [
        {"depth": {"pruner": "best-windows", "target": {"layers": 1}}},
        {"width": {"pruner": "wanda", "target": {"ratio": 0.1}}},
        {"repair": {}},
    ],
}


def run(
    stories: Path,
    stages: list[dict[str, Any]],
    plugins: Plugins,
    cache: ObservationCache | None,
    output: Path | None = None,
) -> RunResult:
    data = {"model": str(stories), "calibration": {"text": "python-docs", "samples": 6, "seq_len": 32}}
    data |= {"stages": stages, "output": None if output is None else str(output)}
    return CompressionPipeline(build_recipe(data, plugins), plugins, observations=cache).run()


@pytest.mark.parametrize("name", RECIPES)
def test_a_cold_and_a_warm_cache_give_the_bytes_of_none(
    stories: Path, plugins: Plugins, tmp_path: Path, name: str
) -> None:
    cache = ObservationCache(tmp_path / "cache")
    plain, *others = [run(stories, RECIPES[name], plugins, used) for used in (None, cache, cache)]
    for other in others:
        assert other.plan.to_data() == plain.plan.to_data()
        assert other.report == plain.report
        states = plain.model.state_dict(), other.model.state_dict()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.slow
def test_the_saved_files_are_the_same_bytes(stories: Path, plugins: Plugins, tmp_path: Path) -> None:
    cache = ObservationCache(tmp_path / "cache")
    run(stories, RECIPES["all"], plugins, cache)
    for which, used in [("none", None), ("warm", cache)]:
        run(stories, RECIPES["all"], plugins, used, tmp_path / which)
    # The recipe names its output, and the manifest tells the recipe's hash.
    own = {"timing.json", "report.html", "recipe.yaml", "swm-manifest.json"}
    files = {file.name for file in (tmp_path / "none").iterdir()} - own
    for file in files:
        assert (tmp_path / "warm" / file).read_bytes() == (tmp_path / "none" / file).read_bytes(), file


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_known_is_not_observed_again(
    stories: Path, plugins: Plugins, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ObservationCache(tmp_path / "cache")
    run(stories, RECIPES[name], plugins, cache)
    monkeypatch.setattr("swm.model.view.ModelView.record", lambda *a, **k: pytest.fail("the text was run again"))
    monkeypatch.setattr("swm.width.scoring.input_statistics", lambda *a, **k: pytest.fail("inputs were observed again"))
    run(stories, RECIPES[name], plugins, cache)


def test_another_ratio_takes_the_same_scores(
    stories: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ObservationCache(tmp_path / "cache")
    run(stories, RECIPES["width"], plugins, cache)
    monkeypatch.setattr("swm.model.view.ModelView.record", lambda *a, **k: pytest.fail("the text was run again"))
    run(stories, [{"width": {"pruner": "llm-pruner", "target": {"ratio": 0.3}}}], plugins, cache)


def test_another_merger_takes_the_same_distances(stories: Path, plugins: Plugins, tmp_path: Path) -> None:
    cache = ObservationCache(tmp_path / "cache")
    run(stories, RECIPES["influence"], plugins, cache)
    [values] = [entry for entry in cache.entries() if entry.about["what"] == "depth trials"]
    known = len(values.file.read_text().splitlines())
    depth = {"pruner": "block-influence", "target": {"layers": 2}, "merger": "average"}
    run(stories, [{"depth": depth}], plugins, cache)
    # Only the merged model's similarity is new.
    assert len(values.file.read_text().splitlines()) == known + 1


@pytest.mark.parametrize(("samples", "seq_len", "batches"), [(6, 32, 1), (10, 128, 5)])
def test_numbers_are_told_with_the_batches_that_the_text_ran_in(
    stories: Path, plugins: Plugins, tmp_path: Path, samples: int, seq_len: int, batches: int
) -> None:
    cache = ObservationCache(tmp_path)
    data = {"model": str(stories), "calibration": {"text": "python-docs", "samples": samples, "seq_len": seq_len}}
    stages = [{"depth": {"pruner": {"name": "sliding-window", "threshold": 0.7}}}]
    CompressionPipeline(build_recipe({**data, "stages": stages}, plugins), plugins, observations=cache).plan()
    [values] = [entry.file for entry in cache.entries() if entry.about["what"] == "depth trials"]
    names = [json.loads(line)[0] for line in values.read_text().splitlines()[1:]]
    assert names
    assert all(f'"batches": {batches},' in name for name in names)


def test_another_model_text_seed_or_version_is_another_observation(
    stories: Path, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ObservationCache(tmp_path / "cache")
    run(stories, RECIPES["width"], plugins, cache)
    known = len(cache.entries())
    monkeypatch.setattr(version, "__version__", "9.9")
    run(stories, RECIPES["width"], plugins, cache)
    assert len(cache.entries()) == 2 * known


def test_without_a_cache_a_context_observes(llama: Any, ids: torch.Tensor) -> None:
    context = StageContext(llama, None, None, 0, None)  # type: ignore[arg-type]
    assert context.observation({"what": "x"}, numbers).facts == {"best": 0.1}


def test_tensors_that_share_memory_are_kept(tmp_path: Path) -> None:
    values = torch.arange(6.0)
    cache = ObservationCache(tmp_path)
    shared = Observation({"all": values, "some": values[2:4], "same": values})
    assert cache.observation({"n": 1}, lambda: shared) is shared
    kept = cache.observation({"n": 1}, lambda: pytest.fail("it was kept"))
    assert {name: value.tolist() for name, value in kept.tensors.items()} == {
        "all": values.tolist(),
        "some": [2.0, 3.0],
        "same": values.tolist(),
    }
