"""Measuring and inspecting take a limit of memory as a run does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, MambaConfig

import swm
from swm.errors import ModelError, RecipeError
from swm.measure.working_bytes import inspected_together, key_numbers, tokens_together, tokens_with_keys
from swm.memory import working_memory
from swm.plugins.loading import Plugins
from swm.recipe.building import build_evaluation
from swm.run import memory_plan
from swm.testing import tiny_tokenizer

TEXT = {"text": "python-docs", "seq_len": 32, "max_tokens": 256}
CALIBRATION = {"text": "python-docs", "samples": 3, "seq_len": 32}

Job = Callable[..., Any]


def evaluate(model: Path, **options: Any) -> Any:
    return swm.evaluate(str(model), perplexity=TEXT, **options)


def inspect(model: Path, **options: Any) -> Any:
    return swm.inspect(str(model), calibration=CALIBRATION, **options).to_dict()


def inspect_by_cka(model: Path, **options: Any) -> Any:
    return inspect(model, similarity="cka", **options)


JOBS = [evaluate, inspect, inspect_by_cka]


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swm.loading.models.load_model", lambda *args, **options: pytest.fail("weights were loaded"))


@pytest.mark.parametrize("job", JOBS)
def test_too_little_memory_is_refused_before_the_model_is_loaded(job: Job, stories: Path, unloaded: None) -> None:
    with pytest.raises(ModelError, match=r"memory: found 1MiB; this run needs [\d.]+ [MG]iB or more"):
        job(stories, memory="1MiB")
    with pytest.raises(RecipeError, match=r"memory: found 'plenty'; a size is .*8GiB"):
        job(stories, memory="plenty")


@pytest.mark.parametrize(
    ("job", "fits"),
    [
        (evaluate, "perplexity with max_tokens of at most 255 tokens fits"),
        (inspect, "calibration with samples x seq_len of at most 95 tokens fits"),
    ],
)
def test_a_refusal_says_which_numbers_fit(
    job: Job, fits: str, stories: Path, unloaded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []

    class Planned(BaseException):
        pass

    def planned(plan: memory_plan.MemoryPlan) -> None:
        plans.append(plan)
        raise Planned

    monkeypatch.setattr(memory_plan, "own_memory", lambda: 0)
    monkeypatch.setattr(memory_plan.MemoryPlan, "memory", planned)
    with pytest.raises(Planned):
        job(stories, memory="99GiB")
    least = plans[0].floor
    with pytest.raises(Planned):
        job(stories, memory=least)
    with pytest.raises(ModelError, match=fits):
        job(stories, memory=least - 1)


@pytest.mark.parametrize("job", JOBS)
def test_numbers_are_the_same_wherever_tensors_lie(
    job: Job, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = working_memory.WorkingMemory(0, tmp_path)
    given = []

    def mapped(plan: memory_plan.MemoryPlan) -> working_memory.WorkingMemory:
        given.append(plan.given)
        return memory

    monkeypatch.setattr(working_memory, "SMALL", 1)
    free = job(stories, dtype="bfloat16")
    monkeypatch.setattr(memory_plan.MemoryPlan, "memory", mapped)
    assert job(stories, dtype="bfloat16", memory="9GiB") == free
    assert given == [9 * 2**30]
    assert memory.most_mapped > 0


def test_what_is_run_together_is_known_beforehand(plugins: Plugins) -> None:
    def together(**wanted: Any) -> tuple[int, str]:
        return tokens_together(build_evaluation(wanted, plugins))

    assert together(prompts=["Hi."]) == (0, "")
    assert together(perplexity={"seq_len": 300}) == (900, "perplexity with max_tokens")
    assert together(perplexity={"seq_len": 300, "max_tokens": 500})[0] == 500
    assert together(perplexity={"seq_len": 4000})[0] == 4000
    assert together(perplexity={}, tasks="piqa") == (2048, "")
    assert together(speed={"batch_sizes": [2, 64], "prompt_tokens": 100}) == (
        6400,
        "speed with batch_sizes x prompt_tokens",
    )
    speed = build_evaluation({"speed": {"batch_sizes": [8], "prompt_tokens": 100, "new_tokens": 20}}, plugins)
    assert tokens_with_keys(speed) == 960
    assert [inspected_together(*text) for text in ((3, 100), (30, 100), (3, 5000))] == [300, 1000, 5000]


def test_a_model_without_attention_is_measured(tmp_path: Path) -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 128, "state_size": 8}
    AutoModelForCausalLM.from_config(MambaConfig(**shape)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    measured = swm.evaluate(str(tmp_path), perplexity=TEXT, prompts=["a"], max_new_tokens=2)
    assert measured["perplexity"]["value"] > 1
    assert len(measured["answers"]) == 1


def test_keys_are_counted_by_layer_where_a_config_lists_them() -> None:
    config = SimpleNamespace(
        num_attention_heads=[4, 8], num_key_value_heads=[1, 2], hidden_size=64, num_hidden_layers=2, head_dim=None
    )
    assert key_numbers(config) == 2 * 2 * 2 * 8
