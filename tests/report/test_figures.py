"""Figures: images and SVG that show what they were given, the same every time, and touch nobody's settings."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from swm.measure.inspection import BoundaryNorms, Inspection
from swm.model.windows import Window
from swm.report.figures import _ticks, draw_influence, draw_norms, draw_similarity, write_figures

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ("similarity", "influence", "norms")


def inspection(layers: int = 4, **changes: Any) -> Inspection:
    """Layers that are the less alike the farther apart they are."""
    table = tuple(tuple(1 - abs(i - j) / layers for j in range(layers)) for i in range(layers))
    made = Inspection(
        model="a-model",
        layers=tuple(range(10, 10 + layers)),
        metric={"name": "cosine", "tokens": "each"},
        calibration={"text": {"name": "list"}, "samples": 8, "seq_len": 128},
        similarity=table,
        patch_threshold=0.7,
        patches=(Window(1, 2),),
        influence=tuple(0.1 * (i + 1) for i in range(layers)),
        norms=tuple(BoundaryNorms(2.0, 10.0**i, 5.0, 1.0, 0.25, 1.0) for i in range(layers + 1)),
    )
    return replace(made, **changes)


@contextmanager
def drawn(draw: Any, given: Inspection) -> Iterator[Figure]:
    figure = Figure()
    with style.context("default"):
        draw(figure, given)
        yield figure


def words(file: Path) -> list[str]:
    return ["".join(element.itertext()).strip() for element in ElementTree.parse(file).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("figures")
    write_figures(inspection(), made)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_png_is_an_image_of_a_size_for_a_page(name: str, folder: Path) -> None:
    data = (folder / f"{name}.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert 900 <= width <= 1300
    assert 400 <= height <= 1100
    assert len(data) > 5000
    assert b"Software" not in data


@pytest.mark.parametrize("name", NAMES)
def test_an_svg_is_xml_with_text_as_text(name: str, folder: Path) -> None:
    root = ElementTree.parse(folder / f"{name}.svg").getroot()
    assert root.tag == f"{SVG}svg"
    text = "\n".join(words(folder / f"{name}.svg"))
    assert "a-model" in text
    assert "calibration: list, 8 samples of 128 tokens" in text
    assert "<dc:date>" not in (folder / f"{name}.svg").read_text(encoding="utf-8")


def test_the_heat_map_says_its_metric_and_its_patches(folder: Path) -> None:
    text = words(folder / "similarity.svg")
    assert "cosine (tokens: each)" in text
    assert "patches (all pairs at least 0.700): 11-12" in text
    assert {"10", "11", "12", "13"} <= set(text)


def test_the_same_inspection_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_figures(inspection(), tmp_path)
    for file in sorted(folder.iterdir()):
        assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name


def test_settings_of_others_neither_change_a_figure_nor_are_changed(folder: Path, tmp_path: Path) -> None:
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.hashsalt": "other"}):
        before = dict(matplotlib.rcParams)
        write_figures(inspection(), tmp_path)
        assert dict(matplotlib.rcParams) == before
    for file in sorted(folder.iterdir()):
        assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name


def test_patches_are_outlined_where_they_are() -> None:
    with drawn(draw_similarity, inspection()) as figure:
        outlines = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
        assert [(o.get_xy(), o.get_width(), o.get_height()) for o in outlines] == [((1, 1), 2, 2)]


def test_bars_are_the_influences_and_those_far_above_are_cut_and_written() -> None:
    with drawn(draw_influence, inspection(influence=(0.1, 0.2, 0.1, 5.0))) as figure:
        [axes] = figure.axes
        heights = [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)]
        assert heights == pytest.approx([0.1, 0.2, 0.1, 1.15 * 0.2])
        assert "5 ↑" in [text.get_text() for text in axes.texts]
    with drawn(draw_influence, inspection()) as figure:
        assert not any("↑" in text.get_text() for text in figure.axes[0].texts)


def test_norms_are_on_a_logarithmic_axis_with_the_largest_tokens_share_below() -> None:
    with drawn(draw_norms, inspection()) as figure:
        above, below = figure.axes
        assert above.get_yscale() == "log"
        assert list(above.lines[0].get_ydata()) == [1, 10, 100, 1000, 10000]
        assert [bar.get_height() for bar in below.patches if isinstance(bar, Rectangle)] == [25.0] * 5
        assert [label.get_text() for label in below.get_xticklabels()] == ["10", "11", "12", "13", "end"]


@pytest.mark.parametrize(
    "given",
    [
        inspection(1, patches=()),
        inspection(2, influence=(0.0, 0.0)),
        inspection(
            80, model="owner/a-model-with-a-rather-long-name", patches=tuple(Window(i, i + 1) for i in range(0, 80, 2))
        ),
    ],
    ids=["one layer", "two layers that change nothing", "eighty layers"],
)
def test_models_of_any_depth_can_be_drawn(given: Inspection, tmp_path: Path) -> None:
    write_figures(given, tmp_path)
    assert len(list(tmp_path.iterdir())) == 6


def test_the_heat_map_of_a_deep_model_is_a_small_file(tmp_path: Path) -> None:
    write_figures(inspection(80, patches=()), tmp_path)
    assert (tmp_path / "similarity.svg").stat().st_size < 100_000


def test_labelled_positions_are_even_and_end_at_the_last() -> None:
    assert _ticks(1) == [0]
    assert _ticks(5) == [0, 1, 2, 3, 4]
    assert _ticks(30) == [*range(0, 27, 2), 29]
    assert len(_ticks(126)) <= 21
