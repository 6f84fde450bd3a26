from __future__ import annotations

import json
import math
from typing import Any

import pytest

from swm.files.json_text import dumps, restored


def _refuse(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def test_numbers_without_a_form_in_json_are_strings_that_come_back() -> None:
    data = {"value": math.inf, "list": [-math.inf, 1.5, (math.nan,)], "text": "NaN it is", "none": None}
    read = json.loads(dumps(data), parse_constant=_refuse)
    assert read == {"value": "Infinity", "list": ["-Infinity", 1.5, ["NaN"]], "text": "NaN it is", "none": None}
    back = restored(read)
    assert back["value"] == float(read["value"]) == math.inf
    assert math.isnan(back["list"][2][0])
    assert (back["text"], back["none"], back["list"][1]) == ("NaN it is", None, 1.5)


@pytest.mark.parametrize("text", ["half \udc80", "\x9b2J", "\u202edcba", "\x1b[31m", "größer 你好"])
def test_text_can_be_encoded_and_is_the_same_when_read(text: str) -> None:
    written = dumps([text])
    written.encode()
    assert json.loads(written) == [text]
    assert not set(written) & set("\x1b\x9b\u202e")
