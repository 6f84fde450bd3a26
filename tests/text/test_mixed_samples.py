"""Samples of text and of images: how many of each, what they hold, and what cannot become one."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from processors import save_processor
from transformers import AutoProcessor
from zoo_multimodal import BEGIN, END, IMAGE

from swm.builtin.texts.file import FileText
from swm.errors import TextError
from swm.interfaces.text import Calibration
from swm.text.calibration import draw_samples
from swm.text.images import ImageReader

Row = dict[str, Any]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ImageReader:
    return reader_of("llava", tmp_path_factory.mktemp("llava"))


def reader_of(name: str, folder: Path) -> ImageReader:
    save_processor(name, folder)
    processor = AutoProcessor.from_pretrained(folder)
    return ImageReader(processor, processor.tokenizer, [IMAGE])


def written(rows: list[Row], folder: Path, suffix: str = "jsonl") -> FileText:
    """A file of rows; the images that they name, each of one colour."""
    names = [row["image"] for row in rows if row.get("image")]
    for i, name in enumerate(names):
        Image.new("RGB", (16, 16), (20 * i, 0, 0)).save(folder / name)
    file = folder / f"mix.{suffix}"
    if suffix == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == "csv":
        with file.open("w", newline="") as stream:
            table = csv.DictWriter(stream, ["text", "image"])
            table.writeheader()
            table.writerows(rows)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    source = FileText(str(file), image="image")
    source.check()
    return source


def drawn(reader: ImageReader, source: FileText, samples: int, seq_len: int, seed: int = 0) -> Calibration:
    return draw_samples(reader.tokenizer, source, samples=samples, seq_len=seq_len, seed=seed, images=reader)


def shown(reader: ImageReader, calibration: Calibration, row: int) -> str:
    """The text of a sample; a tilde for each piece of an image."""
    tokens = reader.tokenizer.convert_ids_to_tokens(calibration.ids[row].tolist())
    return "".join("~" if token == "<image>" else token for token in tokens)


ROWS = [
    {"text": "one", "image": "1.png"},
    {"text": "a long row of text without an image", "image": None},
    {"text": "two", "image": "2.jpg"},
    {"text": "another long row of text", "image": None},
]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_an_image_begins_a_sample_and_the_rows_behind_it_fill_it_up(
    suffix: str, reader: ImageReader, tmp_path: Path
) -> None:
    calibration = drawn(reader, written(ROWS, tmp_path, suffix), 4, 20)
    assert sorted(calibration.images) == [1, 3]
    assert shown(reader, calibration, 1) == "~~~~ one\n\na long row"
    assert shown(reader, calibration, 3) == "~~~~ two\n\nanother lo"
    stream = "a long row of text without an image\n\nanother long row of text"
    assert [shown(reader, calibration, row) for row in (0, 2)] == [stream[:20], stream[40:60]]
    image = calibration.images[1]
    assert image["pixel_values"].shape == (1, 3, 16, 16)
    assert image["attention_mask"].shape == (1, 20)


def test_behind_the_last_row_the_first_follows_and_marks_of_other_images_are_left_out(
    reader: ImageReader, tmp_path: Path
) -> None:
    rows = [{"text": "<image>caption"}, {"text": ""}, {"text": "last", "image": "1.png"}]
    calibration = drawn(reader, written(rows, tmp_path), 1, 16)
    assert shown(reader, calibration, 0) == "~~~~ last\n\ncapti"


def test_a_text_with_the_mark_of_its_image_is_written_as_it_stands(reader: ImageReader, tmp_path: Path) -> None:
    rows = [{"text": "before <image> behind", "image": "1.png"}]
    assert shown(reader, drawn(reader, written(rows, tmp_path), 1, 18), 0) == "before ~~~~ behind"


def test_a_chat_template_and_token_types_are_those_of_the_processor(tmp_path: Path) -> None:
    for name in ("llava_next", "gemma3"):
        (tmp_path / name).mkdir()
    chat, types = (reader_of(name, tmp_path / name) for name in ("llava_next", "gemma3"))
    source = written([{"text": "what is that?", "image": "1.png"}], tmp_path)
    assert shown(chat, drawn(chat, source, 1, 18), 0) == ":" + 10 * "~" + "what is"
    calibration = drawn(types, source, 1, 16)
    ids, kinds = calibration.ids[0], calibration.images[0]["token_type_ids"][0]
    assert ids[2:8].tolist() == [BEGIN, IMAGE, IMAGE, IMAGE, IMAGE, END]
    assert torch.equal(kinds == 1, ids == IMAGE)


def test_labels_of_a_processor_are_left_out(tmp_path: Path) -> None:
    reader = reader_of("paligemma", tmp_path)
    calibration = drawn(reader, written([{"text": "what is that?", "image": "1.png"}], tmp_path), 1, 16)
    assert shown(reader, calibration, 0) == "~~~~<s> what is th"
    assert sorted(calibration.images[0]) == ["attention_mask", "pixel_values", "token_type_ids"]


@pytest.mark.parametrize(
    ("images", "texts", "samples", "expected"),
    [(2, 6, 8, 2), (6, 2, 4, 3), (1, 50, 8, 1), (9, 1, 4, 3), (3, 0, 3, 3), (1, 1, 1, 1), (2, 2, 8, 2)],
)
def test_the_share_of_samples_with_an_image_is_that_of_the_rows(
    images: int, texts: int, samples: int, expected: int, reader: ImageReader, tmp_path: Path
) -> None:
    rows: list[Row] = [{"text": "t" * 90} for _ in range(texts)]
    rows += [{"text": "i" * 20, "image": f"{i}.png"} for i in range(images)]
    calibration = drawn(reader, written(rows, tmp_path), samples, 10)
    assert len(calibration.images) == expected
    assert ((calibration.ids == IMAGE).sum(dim=1) > 0).nonzero().flatten().tolist() == list(calibration.images)


def test_the_draw_follows_the_seed(reader: ImageReader, tmp_path: Path) -> None:
    rows: list[Row] = [{"text": f"{i}" * 30, "image": f"{i}.png"} for i in range(9)] + [{"text": "text " * 90}] * 3
    source = written(rows, tmp_path)
    one, same, other = (drawn(reader, source, 4, 12, seed) for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("rows", "samples", "seq_len", "message"),
    [
        ([{"text": "a", "image": "1.png"}], 1, 20, r":1: the image and all text of the file are 6 tokens, a sample is"),
        ([{"text": "abc", "image": "1.png"}], 1, 4, r":1: image .*1\.png takes 4 tokens, and ends at token 4; .* 5 or"),
        (
            [{"text": "abc", "image": "1.png"}],
            2,
            6,
            "2 samples need 2 rows with an image; .* has 1, and no row of",
        ),
        ([{"text": "abc" * 9, "image": "1.png"}, {"text": "abc"}], 2, 6, "1 samples of 6 tokens need 6 tokens; text"),
        ([{"text": "<image>" * 2, "image": "1.png"}], 1, 6, r":1: LlavaProcessor cannot write image .*1\.png and its"),
    ],
)
def test_what_is_too_little_is_refused_with_numbers(
    rows: list[Row], samples: int, seq_len: int, message: str, reader: ImageReader, tmp_path: Path
) -> None:
    with pytest.raises(TextError, match=message):
        drawn(reader, written(rows, tmp_path), samples, seq_len)


def test_a_column_without_images_and_a_plain_text_are_refused(tmp_path: Path) -> None:
    written(ROWS, tmp_path)
    with pytest.raises(TextError, match="no row has an image in column 'picture'"):
        FileText(str(tmp_path / "mix.jsonl"), image="picture").check()
    (tmp_path / "plain.txt").write_text("plain")
    with pytest.raises(TextError, match="is plain text, which has no column 'image'"):
        FileText(str(tmp_path / "plain.txt"), image="image").check()


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_column_of_images_that_is_not_named_is_told(suffix: str, tmp_path: Path) -> None:
    written(ROWS[1:], tmp_path, suffix)
    file = tmp_path / f"mix.{suffix}"
    assert "column 'image' of the calibration text is not read" in FileText(str(file)).unread()
    for other in ("plain.txt", "text.jsonl"):
        (tmp_path / other).write_text('{"text": "a"}\n' if other == "text.jsonl" else "a")
        assert FileText(str(tmp_path / other)).unread() == ""
