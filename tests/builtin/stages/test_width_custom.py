"""Widths that no config of the class holds: from recipe to folder with `layout: custom`, refused before otherwise."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from zoo import zoo_model

from swm.errors import FamilyError, RecipeError
from swm.plan.reading import read_plan
from swm.plugins.loading import Plugins
from swm.run.pipeline import compress
from swm.run.replay import replay


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        tokens = ["<pad>", "<s>", "</s>", "<unk>", *string.printable[:92]]
        words = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "<unk>"))
        words.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        zoo_model(name).save_pretrained(tmp_path / "model")
        PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>").save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return make


def cut(folder: Path, output: Path, part: str, **recipe: Any) -> Any:
    torch.set_num_threads(1)
    pruner = recipe.pop("pruner", "magnitude")
    stage = {"width": {"pruner": pruner, "units": [part], "layer_ratio": 0.5, "uniform": recipe.pop("uniform", True)}}
    text = {"text": "python-docs", "samples": 2, "seq_len": 16}
    return compress(str(folder), [stage], output=str(output), dtype="float32", calibration=text, **recipe)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "part"), [("bloom", "mlp"), ("olmoe", "attention")])
def test_a_recipe_says_the_layout_and_gets_the_true_sizes(
    folder_of: Callable[[str], Path], tmp_path: Path, plugins: Plugins, name: str, part: str
) -> None:
    folder = folder_of(name)
    with pytest.raises(RecipeError, match=r"no config of this model's class says .* add layout: custom"):
        cut(folder, tmp_path / "native", part)
    with pytest.raises(RecipeError, match="layout: padded cannot hold the result; add layout: custom"):
        cut(folder, tmp_path / "padded", part, layout="padded", uniform=False)
    done = cut(folder, tmp_path / "one", part, layout="custom")
    assert done.report["verification"]["max_abs_difference"] <= 1e-5
    assert done.report["verification"]["generated_equal"]
    assert done.report["compressed"]["parameters"] < sum(p.numel() for p in zoo_model(name).parameters())
    replay(read_plan(tmp_path / "one/plan.yaml", plugins.registry), plugins, str(tmp_path / "two"), layout="custom")
    for file in ("model.safetensors", "config.json", "modeling_swm.py"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_gradients_of_layers_that_hand_on_their_keys_are_refused_beforehand(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(FamilyError, match="use a pruner that needs no gradients"):
        cut(folder_of("gemma4_text, shared"), tmp_path / "one", "mlp", pruner="llm-pruner")
