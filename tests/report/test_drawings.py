"""Drawings of the report: well-formed, the same every time, and of what they were given."""

from __future__ import annotations

from xml.etree import ElementTree

from swm.model.windows import Window
from swm.report.drawings import loss_curve, merge_drawing, width_bars

NAME = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def test_a_merge_shows_every_layer_and_what_became_of_it() -> None:
    svg = merge_drawing(6, [Window(1, 3)])
    assert texts(svg) == ["original", "compressed", "0", "0", "1", "2", "3", "1–3", "4", "4", "5", "5"]
    assert "<title>6 layers become 4</title>" in svg
    assert "<title>layers 1 to 3 become one</title>" in svg
    assert svg == merge_drawing(6, [Window(1, 3)])


def test_boxes_too_narrow_for_their_numbers_have_some_beside_them() -> None:
    found = texts(merge_drawing(80, [Window(30, 50), Window(51, 62), Window(63, 64), Window(70, 75)]))
    # Two rows have room for the first two windows, not for the one right after them.
    numbers = ["0", "10", "20", "30", "40", "50", "60", "70"]
    assert found == ["original", "compressed", "30–50", "51–62", "70–75", *numbers]


def test_only_widths_that_changed_are_drawn() -> None:
    svg = width_bars({"heads": 8, "mlp": 100}, {"heads": 8, "mlp": [100, 50, 75]})
    assert texts(svg) == ["MLP channels: 50 to 100 of 100"]
    heights = [rect.get("height") for rect in ElementTree.fromstring(svg).iter("rect")]
    assert heights == ["50", "50.0", "50", "25.0", "50", "37.5"]
    assert width_bars({"heads": 8}, {"heads": 8}) == ""
    assert texts(width_bars({"mlp": 100}, {"mlp": 64})) == ["MLP channels: 64 of 100"]


def test_a_curve_begins_and_ends_where_the_losses_do() -> None:
    svg = loss_curve([[1, 3.0], [2, float("nan")], [3, 1.0]])
    assert texts(svg)[-1] == "step 3, loss 1.000"
    [line] = ElementTree.fromstring(svg).iter("polyline")
    assert line.get("points") == "56.0,14.0 744.0,176.0"
    assert loss_curve([[1, 2.0]]).count("<polyline") == 1
    assert loss_curve([[1, float("nan")], [2, float("inf")]]) == ""
