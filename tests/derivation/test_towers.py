"""Rows of models of images and text: those by hand pass the self-test, and others are derived in the whole model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig
from zoo_multimodal import MULTIMODAL, multimodal_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.derivation.known_model import AUTOMATIC, known_model
from swm.derivation.self_test import prove_row
from swm.derivation.small_model import small_model
from swm.errors import FamilyError
from swm.loading.empty_model import empty_model
from swm.model.families import row_of
from swm.plugins.registry import Registry

REFUSED = ("llama4", "mllama")
QUICK = ("internvl",)
TOWERS = [name for name in MULTIMODAL if name not in REFUSED]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path))


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TOWERS]
)
def test_the_rows_of_towers_pass(name: str) -> None:
    model = multimodal_model(name)
    row = row_of(model.config, BUILTIN_FAMILIES)
    assert row is not None
    proof = prove_row(model, row)
    assert {name: str(proof.verdicts[name]) for name in proof.of("wrong")} == {}
    assert proof.verdicts["fewer layers"].state == "proven"


def test_the_row_of_a_tower_is_tested_on_a_model_with_little_beside_it(plugins: Any) -> None:
    config = multimodal_model("qwen3_vl").config
    config.vision_config.depth = 30
    known = known_model(config, plugins.registry)
    assert known.remarks == ()
    assert known.proof.of("wrong") == []
    # Features of the image are added behind it.
    assert known.proof.verdicts["fewer layers"].reason.startswith("layers 0 of 2 must stay: its first 1 layers")


def test_parts_beside_a_tower_are_made_narrow() -> None:
    # As wide as the real ones: nothing says sizes but the class.
    empty = empty_model(AutoConfig.for_model("exaone4_5"))
    small = small_model(empty, "model.language_model.layers")
    assert sum(value.numel() for value in small.parameters()) < 2_000_000
    assert len(small.get_submodule("model.visual.blocks")) == 1


def test_a_row_is_derived_in_the_whole_model() -> None:
    config = multimodal_model("internvl").config
    # As many layers beside the tower as in it.
    config.vision_config.num_hidden_layers = config.text_config.num_hidden_layers
    known = known_model(config, Registry())
    assert known.origin == AUTOMATIC
    assert (known.family.layers, known.family.tower) == ("model.language_model.layers", "model.language_model")
    units = ["mlp", "mlp config", "heads", "heads config"]
    assert known.proof.of("proven") == ["layers", "fewer layers", *units, "attention block", "mlp block"]


def test_features_added_by_the_numbers_of_layers_are_refused() -> None:
    with pytest.raises(FamilyError, match=r"numbers \(vision_config\.deepstack_visual_indexes\)"):
        known_model(multimodal_model("qwen3_vl").config, Registry())
