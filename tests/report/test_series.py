"""Which facts of a stage are drawn as bars, and how the bars look."""

from __future__ import annotations

from xml.etree import ElementTree

from swm.report.drawings import layer_bars
from swm.report.series import Series, split_series


def bars(svg: str) -> list[ElementTree.Element]:
    return [element for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("rect")]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def test_numbers_by_layer_are_a_series_and_the_rest_stays() -> None:
    scores = {str(layer): layer / 10 for layer in range(5)}
    series, rest = split_series({"order": [3, 1], "scores": scores, "trials": 4})
    assert series == [Series("scores", {layer: layer / 10 for layer in range(5)})]
    assert rest == {"order": [3, 1], "trials": 4}


def test_layers_of_two_parts_are_two_series() -> None:
    series, rest = split_series({"mean_scores": {f"{part} {i}": i for part in ("heads", "mlp") for i in range(3)}})
    assert [(one.title, one.values) for one in series] == [
        ("mean scores: heads", {0: 0, 1: 1, 2: 2}),
        ("mean scores: mlp", {0: 0, 1: 1, 2: 2}),
    ]
    assert rest == {}


def test_a_list_of_fractions_is_a_series_by_position_and_one_of_whole_numbers_is_none() -> None:
    series, rest = split_series({"losses": [3.0, 2.5, 2.25, 2.0], "order": [3, 1, 2, 0], "few": [0.5, 0.25]})
    assert series == [Series("losses", {0: 3.0, 1: 2.5, 2: 2.25, 3: 2.0}, by_position=True)]
    assert set(rest) == {"order", "few"}


def test_entries_that_name_their_layer_are_a_series_for_each_of_their_numbers() -> None:
    entries = [
        {"layer": layer, "projection": name, "error_left": layer / 4, "ridge": None if layer else 0.1}
        for name in ("attention.o", "mlp.down")
        for layer in range(3)
    ]
    series, rest = split_series({"refitted": entries})
    assert [(one.title, one.values) for one in series] == [
        ("refitted: attention.o, error left", {0: 0.0, 1: 0.25, 2: 0.5}),
        ("refitted: attention.o, ridge", {0: 0.1}),
        ("refitted: mlp.down, error left", {0: 0.0, 1: 0.25, 2: 0.5}),
        ("refitted: mlp.down, ridge", {0: 0.1}),
    ]
    assert rest == {}
    other = {"tried": [{"layer": 0, "of": [1]}] * 4}
    assert split_series(other) == ([], other)


def test_series_within_facts_are_seen_and_what_is_no_number_is_none() -> None:
    inner = {"sensitivity": [0.1, 0.2, 0.3, 0.4], "beta": 0.5}
    series, rest = split_series({"allocation": inner, "found": {"1": 1, "2": 2, "3": "x", "4": 4}})
    assert [one.title for one in series] == ["allocation.sensitivity"]
    assert rest == {"allocation.beta": 0.5, "found": {"1": 1, "2": 2, "3": "x", "4": 4}}


def test_a_bar_is_as_high_as_its_number_and_marked_ones_stand_out() -> None:
    svg = layer_bars("scores", {0: 2.0, 1: 1.0, 3: 0.5}, [1])
    assert [float(bar.get("height") or 0) for bar in bars(svg)] == [96.0, 48.0, 24.0]
    assert ["compressed" in (bar.get("fill") or "") for bar in bars(svg)] == [False, True, False]
    assert texts(svg) == ["2", "0", "0", "1", "3"]
    assert svg == layer_bars("scores", {0: 2.0, 1: 1.0, 3: 0.5}, [1])


def test_bars_below_zero_hang_and_one_far_above_is_cut() -> None:
    below = bars(layer_bars("scores", {0: 1.0, 1: -1.0}))
    assert [float(bar.get("y") or 0) for bar in below] == [14.0, 62.0]
    svg = layer_bars("influence", {0: 100.0, 1: 1.0, 2: 0.5, 3: 1.0})
    assert "100 ↑" in texts(svg)
    assert float(bars(svg)[1].get("height") or 0) == 80.0
    assert len(bars(layer_bars("nothing", dict.fromkeys(range(4), 0.0)))) == 4
