"""Keys and values under the name that the installed transformers has for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from swm.model.kv_cache import kv_cache_of


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_they_are_handed_on_under_the_name_that_they_came_with(name: str) -> None:
    assert kv_cache_of({name: 1, "logits": 2}) == {name: 1}
    assert kv_cache_of({name: None, "logits": 2}) == {}


@pytest.mark.filterwarnings("error")
def test_a_second_pass_takes_them(tiny: Any) -> None:
    model, ids = tiny("llama"), torch.arange(3, 11)[None]
    with torch.no_grad():
        kept = kv_cache_of(model(input_ids=ids[:, :4], use_cache=True))
        found = model(input_ids=ids[:, 4:], use_cache=True, **kept).logits
        torch.testing.assert_close(found, model(input_ids=ids).logits[:, 4:])
