"""The checks of family rows: swm's own rows pass them, wrong rows do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from swm.model.families import ModelFamily
from swm.plugins.loading import load_plugins
from swm.testing import checks_for

ROWS = {row.name: row for row in load_plugins().registry.families}
LLAMA = next(row for row in ROWS.values() if "llama" in row.model_types)
A_ROW = replace(LLAMA, name="a-row", model_types=("llama",))
TestLlamaRow = checks_for(A_ROW, {"num_key_value_heads": 2}, fresh_process=False)


def says(row: ModelFamily, given: Any = None) -> str:
    """How the check of all that a row says fails."""
    checks: Any = checks_for(row, fresh_process=False)()
    with pytest.raises(pytest.fail.Exception) as failed:
        checks.test_it_is_right_about_everything_that_it_says(given or {})
    return str(failed.value)


def test_a_row_with_its_projections_mixed_up_is_wrong() -> None:
    mixed = {**LLAMA.projections, "mlp.down": "mlp.up_proj", "mlp.up": "mlp.down_proj"}
    assert "did not pass its test for mlp" in says(replace(LLAMA, projections=mixed))


def test_a_row_with_another_path_of_layers_says_so() -> None:
    assert "says that the layers are at 'model.blocks'" in says(replace(LLAMA, layers="model.blocks"))


def test_a_row_without_its_last_norm_is_wrong_about_the_layers() -> None:
    assert "is wrong about the layers" in says(replace(LLAMA, tail=()))


def test_a_config_that_the_class_refuses_is_told() -> None:
    assert "give checks_for other values of its config" in says(LLAMA, {"num_attention_heads": 5})


def test_layers_that_return_something_else_than_hidden_states_are_told() -> None:
    row = ModelFamily("gpt1", ("openai-gpt",), "transformer.h")
    assert says(row).endswith("is wrong about the layers: its layers do not return hidden states")
