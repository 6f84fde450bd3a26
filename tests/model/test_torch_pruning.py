"""The torch-pruning backend: the native tensors or an error, never another model and never a hang."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from swm.builtin.stages.width import WidthStage
from swm.errors import FamilyError, PlanError
from swm.interfaces.progress import Silent
from swm.interfaces.stage import Setting, StageContext
from swm.interfaces.target import Target
from swm.interfaces.text import Calibration
from swm.model import dependency_graph
from swm.model import torch_pruning as torch_pruning_backend
from swm.model.shape import ModelShape
from swm.model.torch_pruning import cut_units
from swm.model.units import Part
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.plan.plan import Plan, PlannedStage
from swm.plan.reading import read_plan
from swm.plugins.loading import Plugins
from swm.pruners.magnitude import Magnitude
from swm.pruners.wanda import Wanda

PARTS: tuple[Part, ...] = ("attention", "mlp")
SEPARATE = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text")
MLP_ONLY = ("gpt_neox", "opt", "opt without final norm", "sequential gpt_neox")
# Twice as many query heads as KV heads is where torch-pruning by itself never comes to an end.
HEADS = {"no groups": (4, 4), "two to a group": (8, 4), "three to a group": (6, 2), "many": (12, 3)}
Make = Callable[..., PreTrainedModel]
See = Callable[[PreTrainedModel], ModelView]


def cut(view: ModelView, position: int, part: Part, units: Sequence[int], **more: Any) -> None:
    keep_units(view, position, part, units, cut=cut_units, **more)


def kept(view: ModelView, position: int, part: Part) -> list[int]:
    return [i for i in range(view.layer(position).units(part)) if i % 3 != position % 3]


def widths(view: ModelView) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in view.model.modules() if isinstance(m, torch.nn.Linear)]


def assert_same(one: ModelView, other: ModelView, ids: Tensor) -> None:
    theirs = dict(other.model.named_parameters())
    assert dict(one.model.named_parameters()).keys() == theirs.keys()
    for key, value in one.model.named_parameters():
        assert torch.equal(value, theirs[key]), key
        assert value.requires_grad == theirs[key].requires_grad, key
        assert value.is_contiguous() == theirs[key].is_contiguous(), key
    assert widths(one) == widths(other)
    assert one.config.to_dict() == other.config.to_dict()
    with torch.no_grad():
        assert torch.equal(one.model(input_ids=ids).logits, other.model(input_ids=ids).logits)


def snapshot(view: ModelView) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in view.model.named_parameters()}


@pytest.mark.parametrize("name", [*SEPARATE, *MLP_ONLY, "llama with biases and one KV head"])
def test_mlp_is_cut_as_natively(name: str, tiny: Make, view_of: See, ids: Tensor) -> None:
    native, traced = view_of(tiny(name)), view_of(tiny(name))
    for position in range(3):
        keep_units(native, position, "mlp", kept(native, position, "mlp"))
        cut(traced, position, "mlp", kept(traced, position, "mlp"))
    assert_same(native, traced, ids)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("name", SEPARATE)
def test_attention_is_cut_as_natively(name: str, heads: str, tiny: Make, view_of: See, ids: Tensor) -> None:
    count, groups = HEADS[heads]
    changes = {"num_attention_heads": count, "num_key_value_heads": groups, "hidden_size": 96}
    native, traced = view_of(tiny(name, **changes)), view_of(tiny(name, **changes))
    for position in (0, 2, 5):
        keep_units(native, position, "attention", kept(native, position, "attention"))
        cut(traced, position, "attention", kept(traced, position, "attention"))
    assert_same(native, traced, ids)


def test_all_layers_and_parts_and_a_second_cut(tiny: Make, view_of: See, ids: Tensor) -> None:
    native, traced = view_of(tiny("qwen3", num_key_value_heads=4)), view_of(tiny("qwen3", num_key_value_heads=4))
    for units in ({"attention": [0, 2, 3], "mlp": range(5, 60)}, {"attention": [1], "mlp": range(8, 40)}):
        for position in range(6):
            for part in PARTS:
                keep_units(native, position, part, list(units[part]))
                cut(traced, position, part, list(units[part]))
    assert_same(native, traced, ids)


def test_biases_are_added_as_natively(tiny: Make, view_of: See, ids: Tensor) -> None:
    native, traced = view_of(tiny("llama")), view_of(tiny("llama"))
    for view, more in ((native, {}), (traced, {"cut": cut_units})):
        biases = {f"mlp.{name}.bias": torch.full([n], 0.1) for name, n in (("gate", 20), ("up", 20), ("down", 32))}
        keep_units(view, 1, "mlp", list(range(0, 40, 2)), biases, **more)
    assert_same(native, traced, ids)


def test_frozen_half_precision_weights(tiny: Make, view_of: See) -> None:
    native, traced = (view_of(tiny("llama").bfloat16().requires_grad_(False)) for _ in range(2))
    with torch.no_grad():
        keep_units(native, 0, "mlp", list(range(30)))
        cut(traced, 0, "mlp", list(range(30)))
    assert_same(native, traced, torch.ones(1, 4, dtype=torch.long))
    assert not traced.layers[0].get_parameter("input_layernorm.weight").requires_grad


@pytest.mark.parametrize("part", PARTS)
def test_nothing_else_is_touched(part: Part, llama: ModelView) -> None:
    before = snapshot(llama)
    settings = llama.config._attn_implementation, llama.config.use_cache, llama.config.hidden_size
    cut(llama, 1, part, [0])
    assert (llama.config._attn_implementation, llama.config.use_cache, llama.config.hidden_size) == settings
    changed = {key for key, value in llama.model.named_parameters() if value.shape != before[key].shape}
    names = {"attention": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}[part]
    block = {"attention": "self_attn", "mlp": "mlp"}[part]
    assert changed == {f"model.layers.1.{block}.{name}.weight" for name in names}
    assert all(torch.equal(v, before[k]) for k, v in llama.model.named_parameters() if k not in changed)


def test_keeping_all_units_changes_nothing(llama: ModelView) -> None:
    before = snapshot(llama)
    cut(llama, 0, "mlp", list(range(64)))
    assert all(torch.equal(value, before[key]) for key, value in llama.model.named_parameters())


@pytest.mark.parametrize(
    ("name", "part", "says"),
    [
        ("phi3", "mlp", "torch-pruning takes the projections of mlp that share one matrix for one"),
        ("phi3", "attention", "torch-pruning takes the projections of attention that share one matrix for one"),
        ("gpt2", "mlp", "torch-pruning knows no Conv1D"),
    ],
)
def test_refused_before_anything_is_loaded(name: str, part: Part, says: str, tiny: Make, view_of: See) -> None:
    view = view_of(tiny(name))
    stage = WidthStage(Magnitude(), Target(ratio=0.1), units=[part], backend="torch-pruning")
    shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
    with pytest.raises(FamilyError, match=rf"{says}.*use backend: native"):
        stage.check(Setting(shape, view.family, view.config, 4, 12))
    before = snapshot(view)
    with pytest.raises(FamilyError, match=says):
        cut(view, 0, part, [0])
    assert all(torch.equal(value, before[key]) for key, value in view.model.named_parameters())


def without_care(monkeypatch: pytest.MonkeyPatch, name: str, instead: Callable[..., Any]) -> None:
    """torch-pruning as it is, without one of the measures against its traps."""
    monkeypatch.setattr(dependency_graph, name, instead)


def test_a_search_without_end_is_stopped(llama: ModelView, monkeypatch: pytest.MonkeyPatch) -> None:
    without_care(monkeypatch, "_free_concatenations", lambda *_: None)
    monkeypatch.setattr(torch_pruning_backend, "SECONDS", 0.5)
    before, start = snapshot(llama), time.monotonic()
    with pytest.raises(FamilyError, match=r"did not finish tracing the attention of layer 2 in 0\.5 seconds"):
        cut(llama, 2, "attention", [0])
    assert time.monotonic() - start < 60
    assert all(torch.equal(value, before[key]) for key, value in llama.model.named_parameters())


def test_another_cut_than_planned_is_refused(tiny: Make, view_of: See, monkeypatch: pytest.MonkeyPatch) -> None:
    without_care(monkeypatch, "_eager", lambda *_: nullcontext())
    view = view_of(tiny("llama", num_attention_heads=6, num_key_value_heads=2, hidden_size=48))
    before = snapshot(view)
    with pytest.raises(
        FamilyError, match=r"attention of layer 0 as planned: it differs on self_attn\.k_proj, self_attn"
    ):
        cut(view, 0, "attention", [0])
    assert all(torch.equal(value, before[key]) for key, value in view.model.named_parameters())


def test_a_cut_that_does_nothing_is_an_error(llama: ModelView) -> None:
    with pytest.raises(PlanError, match="the mlp cut did not give 10 units"):
        keep_units(llama, 0, "mlp", list(range(10)), cut=lambda *_: None)


def test_a_model_is_not_kept_alive(tiny: Make, view_of: See) -> None:
    def pruned() -> weakref.ref[Any]:
        view = view_of(tiny("llama"))
        cut(view, 0, "attention", [1])
        cut(view, 0, "mlp", [1, 5])
        return weakref.ref(view.model)

    gone = pruned()
    gc.collect()
    assert gone() is None


def context(view: ModelView, ids: Tensor) -> StageContext:
    shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
    return StageContext(view, Calibration(ids, {}, 0), shape, 0, Silent())


def test_a_stage_and_its_replayed_plan(
    tiny: Make, view_of: See, ids: Tensor, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = {
        "source": "tiny",
        "fingerprint": "",
        "model_type": "llama",
        "dtype": "float32",
        "layers": 6,
        "parameters": 1,
    }
    plans = {}
    for backend in ("native", "torch-pruning"):
        stage = WidthStage(Wanda(), layer_ratio=0.5, round_mlp=1, backend=backend)  # type: ignore[arg-type]
        planned = stage.plan(context(view_of(tiny("llama")), ids))
        file = tmp_path / f"{backend}.yaml"
        Plan(original, [PlannedStage("width", {}, planned.steps)], {}, 0).write(file)
        plans[backend] = read_plan(file, plugins.registry)
    texts = {name: (tmp_path / f"{name}.yaml").read_text(encoding="utf-8") for name in plans}
    assert "backend" not in texts["native"]
    assert texts["torch-pruning"].count("backend: torch-pruning") == 12
    used: list[Part] = []
    monkeypatch.setattr(torch_pruning_backend, "cut_units", lambda *args: (used.append(args[2]), cut_units(*args))[1])
    views = {}
    for backend, plan in plans.items():
        views[backend] = view_of(tiny("llama"))
        for stage_plan in plan.stages:
            stage_plan.apply(views[backend])
        assert len(used) == (0 if backend == "native" else 12)
    assert_same(views["native"], views["torch-pruning"], ids)


def test_a_stage_refuses_before_it_scores(llama: ModelView, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    without_care(monkeypatch, "_free_concatenations", lambda *_: None)
    monkeypatch.setattr(torch_pruning_backend, "SECONDS", 0.3)
    monkeypatch.setattr("swm.width.scoring.score_units", lambda *_: pytest.fail("scored"))
    with pytest.raises(FamilyError, match="did not finish"):
        WidthStage(Wanda(), layer_ratio=0.5, backend="torch-pruning").plan(context(llama, ids))


ASKED_FOR = """
import sys

sys.argv = ["swm", "strategies"]
from swm.cli import main

try:
    main()
except SystemExit as end:
    print(end.code, "torch_pruning" in sys.modules, file=sys.stderr)

from swm.builtin.families import BUILTIN_FAMILIES
from swm.builtin.steps.keep import KeepStep
from swm.model.families import find_family
from swm.model.view import ModelView
from swm.testing import tiny_model

model = tiny_model("llama")
view = ModelView(model, find_family(model.config, BUILTIN_FAMILIES))
channels = view.layer(0).units("mlp")
for layer, backend in enumerate(["native", "torch-pruning"]):
    KeepStep(layer, "mlp", "0-2", channels, backend).apply(view, {})
    print(view.layer(layer).units("mlp"), "torch_pruning" in sys.modules, file=sys.stderr)
"""


def test_torch_pruning_is_imported_by_nothing_but_its_own_backend() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ASKED_FOR], capture_output=True, text=True)
    assert done.stderr.splitlines()[-3:] == ["0 False", "3 False", "3 True"]
