"""What cannot work is refused in one sentence, before the weights are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from swm.errors import RecipeError, SwmError
from swm.loading import models
from swm.run.result import RunResult

BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "unknown whitening": ({"whitening": "cholesk"}, {}, r"unknown whitening 'cholesk'.*Did you mean 'cholesky'"),
    "unknown mode": (
        {"whitening": {"name": "channel-weighted", "mode": "rows"}},
        {},
        r"mode of 'channel-weighted': found 'rows'; allowed: 'column' or 'symmetric'",
    ),
    "share beyond one": (
        {"whitening": {"name": "channel-weighted", "share": 3}},
        {},
        r"share of 'channel-weighted': found 3; input should be less",
    ),
    "unknown allocation": ({"allocation": "baies"}, {}, r"unknown allocation 'baies'.*Did you mean 'bayes'"),
    "misspelt key": (
        {"block_rato": 0.2},
        {},
        r"unknown parameter 'block_rato' of 'lowrank'.*mean 'block_ratio'",
    ),
    "ratio of one": ({"block_ratio": 1.0}, {}, r"block_ratio of 'lowrank': found 1\.0; input should be less than 1"),
    "both ways to say it": (
        {"target": {"ratio": 0.2}},
        {},
        r"block_ratio says how much of the projections goes; leave out it or the target",
    ),
    "layers": ({"block_ratio": None, "target": {"layers": 2}}, {}, r"\{params: n\} or \{ratio: r\}, found layers"),
    "no target": ({"block_ratio": None}, {}, r"'lowrank' needs a target"),
    "too much": ({"block_ratio": None, "target": {"ratio": 0.95}}, {}, r"target asks to remove .* give up"),
    "less than a rank": ({"block_ratio": 0.99}, {}, r"layer 0: 0\.01 of attention\.\w+ .* is less than one rank"),
    "vector too short": ({"allocation": [0.8, 0.8]}, {}, r"ratios: found 2 ratios; the model has 6 layers"),
    "vector of another mean": ({"allocation": [0.5] * 6}, {}, r"keep 0\.5000 on average, the target keeps 0\.8000"),
    "vector of words": (
        {"allocation": ["much"]},
        {},
        r"ratios of 'vector': found 'much'; input should be a .*number",
    ),
    "projection named twice": ({"projections": ["mlp.up", "mlp.up"]}, {}, r"projections: .* names one twice"),
    "unknown projection": ({"projections": ["mlp.upp"]}, {}, r"unknown projection 'mlp\.upp'.*Did you mean 'mlp\.up'"),
    "no trials": (
        {"allocation": {"name": "bayes", "trials": 0}},
        {},
        r"trials of 'bayes': found 0; input should be greater",
    ),
    "native layout": ({}, {"layout": "native", "output": "out"}, r"add layout: factored .* or layout: merged"),
}


@pytest.mark.parametrize("case", BAD, ids=[name.replace(" ", "-") for name in BAD])
def test_it_is_refused_before_the_weights_are_loaded(
    case: str, run: Callable[..., RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*args: object, **kwargs: object) -> None:
        pytest.fail("the weights were loaded first")

    monkeypatch.setattr(models, "load_model", loaded)
    stage, recipe, message = BAD[case]
    given = {"whitening": "cholesky", "block_ratio": 0.2, **stage}
    with pytest.raises(SwmError, match=message) as caught:
        run({"lowrank": {key: value for key, value in given.items() if value is not None}}, **recipe)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "twice"),
    [
        (None, None, r"attention\.q, attention\.k, .*, mlp\.down"),
        (None, ["mlp.up"], r"mlp\.up"),
        (["mlp.down", "mlp.up"], ["mlp.up", "attention.o"], r"mlp\.up"),
    ],
)
def test_projections_are_factorised_once(
    first: list[str] | None,
    second: list[str] | None,
    twice: str,
    run: Callable[..., RunResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models, "load_model", lambda *_, **__: pytest.fail("the weights were loaded first"))
    depth = {"depth": {"pruner": "last", "target": {"layers": 1}}}
    stages = [{"lowrank": {"whitening": "none", "block_ratio": 0.2, "projections": roles}} for roles in (first, second)]
    told = rf"stages\.2\.lowrank: stages\.1\.lowrank has put other modules in place of {twice} already, .*once"
    with pytest.raises(RecipeError, match=told):
        run(depth, *stages)


def test_two_stages_may_factorise_different_projections(run: Callable[..., RunResult]) -> None:
    stages = [
        {"lowrank": {"whitening": "none", "block_ratio": 0.2, "projections": [r]}} for r in ("mlp.up", "mlp.down")
    ]
    done = run(*stages)
    assert [{step.role for step in stage.steps} for stage in done.plan.stages] == [{"mlp.up"}, {"mlp.down"}]


@pytest.mark.parametrize(
    "later",
    [
        {"depth": {"pruner": "last"}},
        {"width": {"pruner": "magnitude"}},
        {"allocate": {"pruner": "magnitude", "merger": "delete"}},
    ],
)
def test_layers_and_widths_go_first(
    later: dict[str, Any], run: Callable[..., RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "load_model", lambda *_, **__: pytest.fail("the weights were loaded first"))
    settings = {"target": {"ratio": 0.1}}
    stages = [{"lowrank": {"whitening": "none", "block_ratio": 0.2}}, {k: {**v, **settings} for k, v in later.items()}]
    with pytest.raises(SwmError, match="put this stage first"):
        run(*stages)
