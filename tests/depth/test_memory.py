"""More calibration text makes no tensor larger that lies in no file, whatever the stage does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from swm.builtin.stages.repair import RepairStage
from swm.interfaces.progress import Silent
from swm.interfaces.stage import StageContext
from swm.interfaces.text import Calibration
from swm.measure.inspection import inspect_model
from swm.memory import pieces, working_memory
from swm.memory.working_memory import WorkingMemory
from swm.model import samples as text_samples
from swm.model import token_scores
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
from swm.testing import tiny_model

# Neither is the number of something else in the tiny model, such as 6 layers.
# Fits to fewer tokens than half of the 64 channels take less memory.
SEQ, LITTLE, MUCH = 10, 5, 11


class Shapes(TorchDispatchMode):
    """Notes the shapes of what is computed and lies in no mapped file, with the most bytes of each."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[tuple[int, ...], int] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = operation(*args, **(kwargs or {}))
        for value in tree_leaves(output):
            if isinstance(value, Tensor) and value.dtype.is_floating_point and not value.untyped_storage().filename:
                shape = tuple(value.shape)
                self.bytes[shape] = max(self.bytes.get(shape, 0), value.numel() * value.itemsize)
        return output


STAGES: dict[str, dict[str, Any]] = {
    "sliding window": {"depth": {"pruner": "sliding-window", "target": {"layers": 2}}},
    "block influence": {"depth": {"pruner": "block-influence", "target": {"layers": 2}}},
    "losses": {"depth": {"pruner": "greedy-loss", "target": {"layers": 1}}},
    "cka": {"depth": {"pruner": "block-influence", "similarity": "cka", "target": {"layers": 1}}},
    "kl": {"depth": {"pruner": "sliding-window", "similarity": "kl", "target": {"layers": 1}}},
    "blocks": {"depth": {"pruner": "block-influence", "unit": "any", "target": {"blocks": 1}}},
    "linear": {"depth": {"pruner": "last", "merger": "linear", "target": {"layers": 1}}},
    "least squares": {"depth": {"pruner": "last", "merger": "least-squares", "target": {"layers": 1}}},
    "best neurons": {"depth": {"pruner": "last", "merger": "best-neurons", "target": {"layers": 1}}},
    "distilled": {
        "depth": {"pruner": "last", "merger": {"name": "distilled", "epochs": 1, "batch": 2}, "target": {"layers": 1}}
    },
    "wanda": {"width": {"pruner": "wanda", "target": {"ratio": 0.1}}},
    "gradients": {"width": {"pruner": "llm-pruner", "target": {"ratio": 0.1}}},
    "compensation": {"width": {"pruner": "wanda", "target": {"ratio": 0.1}, "compensate": "least-squares"}},
    "allocation": {"allocate": {"pruner": "wanda", "longest": 1, "levels": [0.5], "target": {"ratio": 0.1}}},
    "repair": {"repair": {}},
}


@pytest.fixture
def too_large(
    view_of: Callable[[Any], ModelView], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[Callable[[ModelView, Tensor], Any]], dict[tuple[int, ...], int]]:
    """Does something with a tiny model and a little text, of which memory keeps nothing, and then with more of it.

    Gives the tensors, as large as half of the hidden states, that more text alone made.
    """
    monkeypatch.setattr(working_memory, "SMALL", 1)
    monkeypatch.setattr(pieces, "PIECE_BYTES", SEQ * 32 * 8)
    monkeypatch.setattr("swm.similarity.cka.BLOCK_BYTES", 1)
    monkeypatch.setattr(text_samples, "TOKENS_PER_BATCH", SEQ)
    monkeypatch.setattr("swm.measure.inspection.TOKENS_PER_BATCH", SEQ)
    monkeypatch.setattr(token_scores, "SCORE_BYTES", 4 * 96 * SEQ)

    def shapes(work: Callable[[ModelView, Tensor], Any], samples: int) -> dict[tuple[int, ...], int]:
        view = view_of(tiny_model("llama"))
        view.memory = WorkingMemory(0, tmp_path)
        with Shapes() as watch:
            work(view, torch.randint(3, 96, (samples, SEQ), generator=torch.Generator().manual_seed(5)))
        return watch.bytes

    def larger(work: Callable[[ModelView, Tensor], Any]) -> dict[tuple[int, ...], int]:
        before, after = shapes(work, LITTLE), shapes(work, MUCH)
        half = MUCH * SEQ * 32 * 4 // 2
        return {shape: size for shape, size in after.items() if size >= half and shape not in before}

    return larger


@pytest.mark.parametrize("name", STAGES)
def test_more_text_makes_no_larger_tensor(
    name: str, too_large: Any, plugins: Plugins, view_of: Callable[[Any], ModelView]
) -> None:
    [(kind, values)] = STAGES[name].items()
    stage: Any = plugins.registry.build("stage", {"name": kind, **values})

    def work(view: ModelView, ids: Tensor) -> None:
        shape = ModelShape(view.parameters(), tuple(view.layer_parameters()))
        context = StageContext(view, Calibration(ids, {}, 0), shape, 0, Silent())
        if isinstance(stage, RepairStage):
            original = view_of(tiny_model("llama"))
            original.memory = view.memory
            context.dense = lambda: original
            with torch.no_grad():
                for layer in view.layers:
                    layer.mlp.down_proj.weight.mul_(0.9)
        stage.plan(context)

    assert not too_large(work)


@pytest.mark.parametrize("metric", ["cosine", "cka", {"name": "cka", "kernel": "rbf"}], ids=str)
def test_inspecting_more_text_makes_no_larger_tensor(metric: Any, too_large: Any, plugins: Plugins) -> None:
    similarity = plugins.registry.build("similarity", metric)
    assert not too_large(lambda view, ids: inspect_model(view, Calibration(ids, {}, 0), similarity))
