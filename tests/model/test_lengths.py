"""How long a text a model takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from swm.errors import RecipeError
from swm.model.lengths import check_length, fitting_length

LIMITED = SimpleNamespace(max_position_embeddings=64)


@pytest.mark.parametrize(("tokens", "fitting"), [(63, 63), (64, 64), (65, 64)])
def test_a_text_is_cut_to_what_the_model_takes(tokens: int, fitting: int) -> None:
    assert fitting_length(LIMITED, tokens) == fitting


@pytest.mark.parametrize("config", [SimpleNamespace(), SimpleNamespace(max_position_embeddings=-1)])
def test_a_config_without_a_limit_takes_any_text(config: Any) -> None:
    assert fitting_length(config, 10**9) == 10**9
    check_length(config, 10**9)


def test_one_token_too_many_is_refused_where_the_recipe_asks_for_it() -> None:
    check_length(LIMITED, 64, ("calibration", "seq_len"))
    with pytest.raises(RecipeError) as error:
        check_length(LIMITED, 65, ("calibration", "seq_len"))
    assert "calibration.seq_len: found 65; the model takes at most 64 tokens" in str(error.value)


def test_a_text_of_several_parts_is_refused_with_its_parts() -> None:
    with pytest.raises(RecipeError, match="found a prompt of 60 tokens and new_tokens: 8, 68 tokens together"):
        check_length(LIMITED, 68, parts="a prompt of 60 tokens and new_tokens: 8")
