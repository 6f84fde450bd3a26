"""What the card says of older readers, by the model type, the rotary tables and the code of a saved folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from zoo import CAUSAL, REFUSED
from zoo_multimodal import MULTIMODAL

from swm.builtin.families import BUILTIN_FAMILIES
from swm.builtin.families.older import OLDER
from swm.loading.older_readers import older_readers
from swm.model.families import ModelFamily

ROW = ModelFamily(
    name="row", model_types=("old", "new", "none"), transformers_4={"old": "", "new": "it has no such type"}
)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "old"}, "Transformers 4.57 and 5 read the same model from it."),
        ({"model_type": "new"}, "does not read it right, as it has no such type."),
        ({"model_type": "none"}, "It was not tried with transformers 4.57"),
        (
            {"model_type": "old", "text_config": {"rope_parameters": {"rope_type": "proportional"}}},
            "type proportional.",
        ),
        ({"model_type": "old", "auto_map": {"AutoConfig": "a.B"}}, "code in this folder is written for transformers 5"),
    ],
)
def test_the_sentence(config: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert said in older_readers(tmp_path, ROW)


def test_the_names_of_a_models_weights_are_those_of_the_original(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "old"}))
    said = older_readers(tmp_path, replace(ROW, tower="model.language_model"))
    assert "where it reads the original" in said


def test_every_family_was_tried() -> None:
    tried = {kind for row in BUILTIN_FAMILIES for kind in row.transformers_4}
    zoo = {values.get("model_type", name) for name, values in CAUSAL.items()} - set(REFUSED)
    # What 4.57 writes of the last two, transformers 5 does not read.
    towers = set(MULTIMODAL) - {"llama4", "mllama", "lfm2_vl", "qwen3_vl_moe"}
    assert tried == zoo | towers == set(OLDER)
