"""What a run keeps where, told beforehand, and the same result wherever that is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from swm.builtin.stages.repair import RepairStage
from swm.errors import ModelError, RecipeError
from swm.memory import working_memory
from swm.model.samples import TOKENS_PER_BATCH
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
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


@pytest.mark.parametrize(("dtype", "says"), [("auto", "mapped from their files"), ("bfloat16", "converted one by one")])
def test_where_weights_lie_is_said(dtype: str, says: str) -> None:
    assert f"B, {says}; scores" in plan_memory("1GiB", [], SHAPE, Config(), tokens=100, dtype=dtype).sentence()


def test_too_little_memory_is_refused_with_what_would_do() -> None:
    with pytest.raises(ModelError, match=r"577.3 MiB or more.*; a smaller model needs less$"):
        plan_memory("100MiB", [], SHAPE, Config(), tokens=100, dtype="float32")
    with pytest.raises(RecipeError, match="8GiB"):
        plan_memory("plenty", [], SHAPE, Config(), tokens=100, dtype="float32")


class Heavy(RepairStage):
    """Needs a GiB beside hidden states."""

    def working_bytes(self, model: ModelView, dtype: torch.dtype, tokens: int) -> int:
        return 2**30


def test_what_a_stage_cannot_stream_counts_and_is_named(llama: ModelView, monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"tokens": 100, "dtype": "float32", "model": llama}
    assert plan_memory("2GiB", [Heavy()], SHAPE, Config(), **about).floor > 2**30
    with pytest.raises(ModelError, match=r"needs 1\.6 GiB or more .*, 1\.0 GiB of it for what stage 'repair' cannot"):
        plan_memory("1GiB", [Heavy()], SHAPE, Config(), **about)
    monkeypatch.setattr(memory_plan, "physical_memory", lambda: 2**30)
    with pytest.raises(ModelError, match=r"this machine has 1\.0 GiB; this run needs 1\.6 GiB"):
        plan_memory(None, [Heavy()], SHAPE, Config(), **about)
    assert plan_memory(None, [Heavy()], SHAPE, Config(), tokens=100, dtype="float32").floor < 2**30, "not on the CPU"


def test_what_stages_need_is_as_large_as_what_they_make(llama: ModelView, plugins: Plugins) -> None:
    def needs(tokens: int = 100, **stage: Any) -> int:
        [(name, values)] = stage.items()
        built: Any = plugins.registry.build("stage", {"name": name, **values})
        return built.working_bytes(llama, torch.bfloat16, tokens)

    weights = llama.parameters()
    assert needs(recover={"recovery": "full"}) > weights * 18
    assert weights * 2 < needs(recover={"recovery": "lora"}) < needs(recover={"recovery": "full"})
    assert needs(depth={"pruner": "last", "target": {"layers": 1}}) == 0
    channels, hidden = 64, 32
    plain = needs(depth={"pruner": "last", "merger": "least-squares", "target": {"layers": 1}})
    given = needs(depth={"pruner": "last", "merger": {"name": "least-squares", "ridge": 0.1}, "target": {"layers": 1}})
    assert plain - given == 8 * channels**2
    few = needs(tokens=32, depth={"pruner": "last", "merger": "least-squares", "target": {"layers": 1}})
    own = 32 * (channels + 3 * hidden) + 2 * channels * hidden + 5 * 32**2
    assert few == 8 * own + 4 * 8 * 32 * (channels + hidden), "the tokens and their Gram matrix, not the inputs'"
    pool = needs(depth={"pruner": "last", "merger": "best-neurons", "target": {"layers": 1}})
    assert pool - plain == 8 * (5 * (3 * channels) ** 2 - 3 * channels**2 + 3 * 2 * channels * hidden)


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
        pytest.param({"width": {"pruner": "llm-pruner", "target": {"ratio": 0.1}}}, marks=pytest.mark.slow),
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


def test_two_stages_of_one_kind_both_count(llama: ModelView) -> None:
    about = {"tokens": 100, "dtype": "float32", "model": llama}
    both = plan_memory("9GiB", [Heavy(), RepairStage()], SHAPE, Config(), **about)
    assert both.floor == plan_memory("9GiB", [RepairStage(), Heavy()], SHAPE, Config(), **about).floor > 2**30


def test_a_sample_that_is_longer_than_a_batch_counts_as_a_whole() -> None:
    about = {"tokens": 20_000, "dtype": "float32"}
    short, long = (plan_memory("9GiB", [], SHAPE, Config(), **about, seq_len=n).floor for n in (100, 10_000))
    assert long - short == (10_000 - TOKENS_PER_BATCH) * 64 * 4 * 12


def test_the_calibration_text_that_would_fit_is_said() -> None:
    least = 2**20 + 2 * 300 * 4 + SCORES
    with pytest.raises(ModelError, match=r"; calibration with samples x seq_len of at most 70 tokens fits$"):
        plan_memory(least + 70 * 64 * 4 * 12 + 5, [], SHAPE, Config(), tokens=100, dtype="float32")


@pytest.mark.parametrize(
    ("stage", "fits"),
    [
        (
            {"recover": {"recovery": "full"}},
            "recover with micro_batch: 1 fits, or recover with micro_batch: 1, cutoff: 64",
        ),
        ({"recover": {"recovery": "partial"}}, "recover with micro_batch: 1 fits"),
        ({"recover": {"recovery": "lora"}}, "recover with micro_batch: 1 fits"),
        (
            {"recover": {"recovery": {"name": "distill", "trains": "all", "teacher": "live"}}},
            "recover with trains: adapters fits",
        ),
        ({"recover": {"recovery": {"name": "distill", "trains": "all"}}}, "recover with micro_batch: 1 fits"),
        ({"depth": {"pruner": "last", "merger": "least-squares", "target": {"layers": 1}}}, "with ridge: 0.01 fits"),
        ({"depth": {"pruner": "last", "merger": "best-neurons", "target": {"layers": 1}}}, "with candidates: 2 fits"),
        (
            {"depth": {"pruner": "last", "merger": "distilled", "target": {"layers": 1}}},
            "start with candidates: 2 fits",
        ),
        (
            {"width": {"pruner": "wanda", "target": {"ratio": 0.1}, "compensate": "least-squares"}},
            "compensate left out",
        ),
        ({"repair": {}}, "repair with ridge: 0.01 fits"),
        ({"allocate": {"pruner": "wanda", "target": {"ratio": 0.1}}}, "of at most 99 tokens fits"),
    ],
    ids=str,
)
def test_every_stage_that_does_not_stream_is_refused_with_what_would_do(
    stage: dict[str, Any], fits: str, llama: ModelView, plugins: Plugins
) -> None:
    [(name, values)] = stage.items()
    built: Any = plugins.registry.build("stage", {"name": name, **values})
    about: Any = {"tokens": 100, "dtype": "float32", "model": llama}
    least = plan_memory("99GiB", [built], SHAPE, Config(), **about).floor
    assert plan_memory(least, [built], SHAPE, Config(), **about).limit == 0
    with pytest.raises(ModelError, match=f"for what stage '{name}' cannot stream; .*{fits}"):
        plan_memory(least - 1, [built], SHAPE, Config(), **about)
