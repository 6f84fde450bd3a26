from __future__ import annotations

import math
from typing import Any

import pytest

from swm.report.html_format import FILTERS
from swm.report.summary import Measured


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("count", (134_515_008,), "134,515,008"),
        ("short", (134_515_008,), "134.5 M"),
        ("short", (7.25e9,), "7.25 B"),
        ("short", (512,), "512"),
        ("fixed", (-0.004,), "0.00"),
        ("fixed", (0.004, 2, "+"), "0.00"),
        ("fixed", (-5.25, 1), "−5.2"),
        ("fixed", (1234.5, 1, "+"), "+1,234.5"),
        ("fixed", (math.inf,), "∞"),
        ("fixed", (math.nan,), "not a number"),
        ("measured", (Measured(61.04, 3.4), 1), "61.0 ± 3.4"),
        ("measured", (None,), "–"),
        ("size", (38_400,), "37.5 KiB"),
        ("size", (512,), "512 B"),
        ("seconds", (0.042,), "42 ms"),
        ("seconds", (4.149,), "4.15 s"),
        ("seconds", (81.3,), "1 min 21 s"),
        ("seconds", (7500,), "2 h 05 min"),
        ("plain", (True,), "yes"),
        ("plain", (5.0e-7,), "5e−07"),
        ("plain", (2048,), "2048"),
        ("plain", ("mlp",), "mlp"),
    ],
)
def test_numbers_look_like(name: str, arguments: tuple[Any, ...], text: str) -> None:
    assert FILTERS[name](*arguments) == text
