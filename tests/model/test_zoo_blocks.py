"""Every architecture of the zoo without some of its sub-blocks: it is the original with their parameters at zero."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from zoo import CAUSAL, zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.checkpoint.export import export
from swm.checkpoint.layout import Layout
from swm.checkpoint.reload import generate
from swm.derivation.sub_blocks_silent import silence_block
from swm.errors import FamilyError
from swm.model.block_probe import layer_probes
from swm.model.blocks import block_modules
from swm.model.families import find_family
from swm.model.surgery import remove_modules
from swm.model.units import Block
from swm.model.view import ModelView

IDS = torch.arange(3, 27).reshape(2, 12)
# MiniMax has a cache of its own.
QUICK = ("llama", "gemma2", "opt", "bloom", "falcon", "qwen2_moe", "falcon_h1", "qwen3_next", "minimax")
# Which sub-blocks go: the first attention holds the length of the cache.
GONE: tuple[tuple[int, Block], ...] = ((0, "attention"), (1, "mlp"), (2, "attention"), (2, "mlp"))


def view_of(model: Any) -> ModelView | None:
    try:
        return ModelView(model, find_family(model.config, BUILTIN_FAMILIES))
    except FamilyError:
        return None


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(input_ids=IDS, use_cache=False).logits


def reloaded(view: ModelView, folder: Path, layout: Layout) -> Any:
    folder.mkdir()
    export(view, layout).write(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto", trust_remote_code=layout == "custom").eval()


def tokens(model: Any) -> list[list[int]]:
    return generate(model, IDS, max_new_tokens=6).tolist()


def tokens_without_cache(model: Any) -> list[list[int]]:
    return generate(model, IDS, max_new_tokens=6, use_cache=False).tolist()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CAUSAL]
)
def test_without_some_sub_blocks(name: str, tmp_path: Path) -> None:
    view = view_of(zoo_model(name))
    if view is None:
        pytest.skip("no row")
    silent = ModelView(copy.deepcopy(view.model), view.family)
    probes, before, parameters = layer_probes(view, IDS), logits(view.model), view.parameters()
    gone = [(i, part) for i, part in GONE if part in block_modules(view.layers[i], view.family)]
    expected = 0
    for position in sorted({position for position, _ in gone}):
        parts = [part for i, part in gone if i == position]
        for part in parts:
            silence_block(silent, position, part)
        removal = {k: v for part in parts for k, v in probes[position].removal(part).items()}
        removal = probes[position].with_norms(removal)
        expected += sum(p.numel() for k in removal for p in view.layers[position].get_submodule(k).parameters())
        remove_modules(view, position, removal)
    assert view.parameters() == parameters - expected < parameters
    wanted = logits(silent.model)
    assert not torch.allclose(wanted, before, atol=1e-3), "what was silenced does not count"
    assert torch.allclose(logits(view.model), wanted, atol=1e-5)
    models = {"memory": view.model, "padded": reloaded(view, tmp_path / "padded", "padded")}
    models["custom"] = reloaded(view, tmp_path / "custom", "custom")
    for where, model in models.items():
        assert torch.allclose(logits(model), wanted, atol=1e-5), where
        assert sum(p.numel() for p in model.parameters()) == (parameters if where == "padded" else view.parameters())
    said = tokens(silent.model)
    assert said == tokens_without_cache(view.model)
    assert all(tokens(model) == said for model in models.values())


def test_so_many_architectures_have_sub_blocks() -> None:
    views = [view for view in map(view_of, map(zoo_model, CAUSAL)) if view is not None]
    for part in ("attention", "mlp"):
        assert sum(any(part in block_modules(layer, view.family) for layer in view.layers) for view in views) >= 73
