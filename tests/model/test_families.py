"""Family rows: what they find in a model, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from swm.errors import FamilyError
from swm.model.families import ModelFamily, find_family
from swm.model.view import ModelView


def test_layers_whose_arithmetic_depends_on_their_position_are_refused(tiny, plugins) -> None:
    config = tiny("gpt2").config
    config.scale_attn_by_inverse_layer_idx = True
    with pytest.raises(FamilyError, match="scale_attn_by_inverse_layer_idx"):
        find_family(config, plugins.registry.families)


def test_a_row_with_a_tower_is_refused_for_a_model_of_text_alone(llama: ModelView) -> None:
    row = ModelFamily("mine", ("llama",), tower="model.language_model")
    with pytest.raises(FamilyError, match=r"row 'mine' has a tower, .*, and the config of a 'llama' has no text"):
        find_family(llama.config, [row])


def test_a_path_that_leads_to_something_else_than_layers_is_refused(llama: ModelView) -> None:
    row = replace(llama.family, layers="model.norm")
    with pytest.raises(FamilyError, match=r"row 'llama': model\.norm is a LlamaRMSNorm, no ModuleList"):
        ModelView(llama.model, row)


def test_the_tail_is_what_of_its_paths_is_there(llama: ModelView) -> None:
    row = replace(llama.family, tail=("model.nothing.norm", "model.norm"))
    assert row.tail_of(llama.model) == [llama.model.get_submodule("model.norm")]
    assert row.body_of(llama.model) is llama.model.get_submodule("model")
