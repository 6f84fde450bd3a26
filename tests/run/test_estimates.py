"""What is said of a run's time before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.interfaces.progress import Silent
from swm.interfaces.stage import Setting, Stage
from swm.interfaces.work import Work
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
from swm.recipe.building import build_recipe
from swm.run.estimates import Pace, about, estimate_sentence, estimated_seconds, measured_pace, works_of
from swm.run.pipeline import compress

PACE = Pace(token=0.01, scores=0.002, product=1e-9)


def work_of(view: ModelView, plugins: Plugins, samples: int = 8, **stages: Any) -> list[Work | None]:
    listed = [{name.rstrip("_"): values} for name, values in stages.items()]
    recipe = build_recipe({"model": "unread", "stages": listed}, plugins)
    shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
    return works_of(recipe, Setting(shape, view.family, view.model_config, samples, 16, view))


def only(view: ModelView, plugins: Plugins, samples: int = 8, **stage: Any) -> Work:
    [work] = work_of(view, plugins, samples, **stage)
    assert work is not None
    return work


def test_the_time_is_the_work_times_the_pace() -> None:
    work = Work(passes=2, scores=1, tokens=50, products=1e9, seconds=4)
    assert PACE.seconds(work, tokens=100) == pytest.approx(100 * (2 * 0.01 + 0.002) + 50 * 0.012 + 1 + 4)
    assert work + work == work * 2 == Work(4, 2, 100, 2e9, 8)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.01, "1 s"), (7.4, "7 s"), (44, "40 s"), (80, "80 s"), (95, "2 min"), (3000, "50 min"), (9000, "2 h")],
)
def test_durations_are_said_in_few_digits(seconds: float, said: str) -> None:
    assert about(seconds) == said


def test_the_sentence_names_the_stages_in_their_order() -> None:
    said = estimate_sentence({"0 depth": 130.0, "1 width": 41.0, "2 recover": None})
    assert said == "estimated: depth about 2 min, width about 40 s, recover depends on its text"


def test_searches_take_as_many_passes_as_they_have_trials(llama: ModelView, plugins: Plugins) -> None:
    once = only(llama, plugins, depth={"pruner": "block-influence", "target": {"layers": 1}})
    assert once == Work(passes=1.5)
    greedy = only(llama, plugins, depth={"pruner": "greedy-loss", "target": {"layers": 2}})
    assert greedy == Work(passes=1 + (4 + 3 + 1) / 2, scores=4 + 3 + 1)
    few = only(llama, plugins, depth={"pruner": "greedy-loss", "target": {"layers": 2}, "search_samples": 2})
    assert few == greedy * 0.25


def test_more_is_computed_for_gradients_and_for_fits(llama: ModelView, plugins: Plugins) -> None:
    def width(**values: Any) -> Work:
        return only(llama, plugins, width={"target": {"ratio": 0.1}, **values})

    assert width(pruner="magnitude") == Work()
    assert width(pruner="wanda") == Work(passes=1)
    assert width(pruner="llm-pruner") == Work(passes=4, scores=3)
    fitted = width(pruner="wanda", compensate="least-squares")
    assert fitted.passes == 3
    assert fitted.products > 0
    merged = only(llama, plugins, depth={"pruner": "last", "merger": "least-squares", "target": {"layers": 1}})
    assert (
        merged.products
        > only(
            llama, plugins, samples=4, depth={"pruner": "last", "merger": "least-squares", "target": {"layers": 1}}
        ).products
    )


def test_a_training_is_known_by_its_steps_or_its_seconds(llama: ModelView, plugins: Plugins) -> None:
    text = {"data": "python-docs"}
    lora = only(llama, plugins, recover={"name": "lora", "steps": 10, "batch": 4, "cutoff": 32, **text})
    assert lora == Work(tokens=10 * 4 * 32 * 3)
    taught = only(llama, plugins, recover={"name": "distill", "steps": 10, "batch": 4, "cutoff": 32, **text})
    assert taught.tokens == 10 * 4 * 32 * 4
    assert only(llama, plugins, recover={"name": "lora", "seconds": 90, **text}) == Work(seconds=90)
    assert work_of(llama, plugins, recover={"name": "lora", **text}) == [None]


def test_a_budget_gives_each_stage_its_share(llama: ModelView, plugins: Plugins) -> None:
    recipe = build_recipe(
        {
            "model": "unread",
            "stages": [{"depth": {"pruner": "greedy-loss"}}, {"width": {"pruner": "wanda"}}],
            "budget": {"ratio": 0.4},
        },
        plugins,
    )
    shape = ModelShape(llama.parameters(), tuple(llama.layer_parameters()))
    depth, width = works_of(recipe, Setting(shape, llama.family, llama.model_config, 8, 16, llama))
    assert depth is not None
    assert depth.scores > 1
    assert width == Work(passes=1)


def test_any_stage_is_a_pass_where_it_says_nothing(llama: ModelView) -> None:
    class Plain(Stage):
        name = "plain"

        def plan(self, context: Any) -> Any:
            raise NotImplementedError

    shape = ModelShape(1000, (300, 300))
    assert Plain().work(Setting(shape, llama.family, llama.model_config, 8, 16)) == Work(passes=1)


def test_the_pace_is_measured_without_a_trace(view: ModelView, ids: Tensor) -> None:
    with torch.no_grad():
        before = view.model(input_ids=ids).logits
        pace = measured_pace(view, ids)
        torch.testing.assert_close(view.model(input_ids=ids).logits, before, rtol=0, atol=0)
    assert pace is not None
    assert 0 < pace.scores < pace.token < 1


class Announced(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def announce(self, text: str) -> None:
        self.said.append(text)


def test_estimates_are_said_before_the_run_and_lie_beside_its_seconds(stories: Path, tmp_path: Path) -> None:
    stages: list[Any] = [{"width": {"pruner": "magnitude", "target": {"ratio": 0.05}}}]
    text = {"text": "python-docs", "samples": 2, "seq_len": 32}
    heard, folder = Announced(), tmp_path / "result"
    compress(str(stories), stages, calibration=text, output=str(folder), progress=heard)
    assert [said.split(":")[0] for said in heard.said] == ["memory", "estimated"]
    assert heard.said[1] == "estimated: width about 1 s"
    times = json.loads((folder / "timing.json").read_text())
    assert {"stage 0 width", "estimated 0 width"} <= times.keys()
    assert "estimated" not in (folder / "report.json").read_text() + (folder / "plan.yaml").read_text()


def test_the_seconds_are_those_of_all_stages() -> None:
    class Named:
        name = "depth"

    stages: Any = [Named(), Named()]
    assert estimated_seconds([Work(passes=1), None], stages, PACE, 100) == {"0 depth": 1.0, "1 depth": None}
