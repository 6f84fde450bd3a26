"""What a run keeps where, told beforehand, and the same result wherever that is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from swm.errors import ModelError, RecipeError
from swm.memory import working_memory
from swm.model.shape import ModelShape
from swm.run import memory_plan
from swm.run.memory_plan import SCORES, plan_memory
from swm.run.pipeline import compress

SHAPE = ModelShape(1000, (300, 300))


class Config:
    """As far as the plan looks at it."""

    hidden_size = 64
    dtype = None


@pytest.fixture(autouse=True)
def _known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan, "own_memory", lambda: 2**20)
    monkeypatch.setattr(memory_plan, "available_memory", lambda: 2**31)


def test_what_is_left_beside_the_least_is_for_hidden_states() -> None:
    plan = plan_memory("1GiB", [], SHAPE, Config(), tokens=100, dtype="float32")
    least = 2**20 + 2 * 300 * 4 + 100 * 64 * 4 * 12 + SCORES
    assert (plan.floor, plan.limit, plan.weights) == (least, 2**30 - least, 4000)


def test_too_little_memory_is_refused_with_what_would_do() -> None:
    with pytest.raises(ModelError, match=r"257.3 MiB or more"):
        plan_memory("100MiB", [], SHAPE, Config(), tokens=100, dtype="float32")
    with pytest.raises(RecipeError, match="8GiB"):
        plan_memory("plenty", [], SHAPE, Config(), tokens=100, dtype="float32")


def test_without_a_size_a_share_of_what_is_free_is_taken() -> None:
    plan = plan_memory(None, [], SHAPE, Config(), tokens=100, dtype="bfloat16")
    assert plan.given is None
    assert plan.limit == int(0.7 * 2**31 - plan.floor)
    assert plan.weights == 2000
    assert plan.sentence().startswith("memory: what is free; weights")


@pytest.mark.parametrize(
    "stage",
    [
        {"depth": {"pruner": "block-influence", "merger": "least-squares", "target": {"layers": 1}}},
        {"width": {"pruner": "llm-pruner", "target": {"ratio": 0.1}}},
    ],
)
def test_hidden_states_in_files_give_the_same_bytes(
    stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: dict[str, Any]
) -> None:
    memory = working_memory.WorkingMemory(0, tmp_path)
    text = {"text": "python-docs", "samples": 4, "seq_len": 32}

    def weights(name: str) -> str:
        compress(str(stories), [stage], calibration=text, output=str(tmp_path / name))
        return hashlib.sha256((tmp_path / name / "model.safetensors").read_bytes()).hexdigest()

    in_memory = weights("in-memory")
    monkeypatch.setattr(working_memory, "SMALL", 1)
    monkeypatch.setattr(memory_plan.MemoryPlan, "memory", lambda plan: memory)
    assert weights("mapped") == in_memory
    assert memory.most_mapped > 0
