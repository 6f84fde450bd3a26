"""Text as Python programs hold it: padding never counts, and what is no text is refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from swm.errors import SwmError, TextError
from swm.plugins.loading import Plugins
from swm.testing import tiny_tokenizer
from swm.text.calibration import draw_samples
from swm.text.given_text import GivenText, read_given
from swm.text.token_rows import natural_shape, samples_of

IDS = torch.arange(12).view(3, 4)
MASK = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 0, 0]])
UNPADDED = [[0, 1, 2, 3], [5, 6, 7], [8, 9]]


class Batches:
    """What collates to batches with masks."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": IDS[index], "attention_mask": MASK[index]}


def stories() -> Iterator[str]:
    yield from ("once", "twice")


GIVEN: dict[str, Any] = {
    "batch": {"input_ids": IDS, "attention_mask": MASK},
    "batches": [{"input_ids": IDS[:2], "attention_mask": MASK[:2]}, {"input_ids": IDS[2:], "attention_mask": MASK[2:]}],
    "loader": DataLoader(Batches(), batch_size=2),  # type: ignore[arg-type]
    "data set": Dataset.from_dict({"input_ids": IDS.tolist(), "attention_mask": MASK.tolist(), "n": [1, 2, 3]}),
    "tensors of a data set": Dataset.from_dict(
        {"input_ids": IDS.tolist(), "attention_mask": MASK.tolist()}
    ).with_format("torch"),
    "lists of several lengths": {"input_ids": UNPADDED},
    "rows": UNPADDED,
    "an empty row": [*UNPADDED[:2], [], UNPADDED[2]],
    "tensors": [torch.tensor(row) for row in UNPADDED],
}


@pytest.mark.parametrize("given", list(GIVEN.values()), ids=list(GIVEN))
def test_rows_come_without_their_padding(given: Any) -> None:
    read = read_given(given)
    assert [row.tolist() for row in read.rows] == UNPADDED
    assert read.facts() == {"rows": 3, "tokens": 9}
    assert read.sha256 == read_given(UNPADDED).sha256


@pytest.mark.parametrize(
    "given",
    [
        ("once", "twice"),
        stories,
        Dataset.from_dict({"text": ["once", "twice"]}),
        Dataset.from_dict({"story": ["once", "twice"]})["story"],
        [{"text": "once"}, {"text": ["twice"]}],
    ],
    ids=["strings", "generator", "data set", "column", "rows"],
)
def test_documents_come_in_their_order(given: Any) -> None:
    read = read_given(given() if callable(given) else given)
    assert read.documents == ("once", "twice")
    assert read.facts() == {"documents": 2, "characters": 9}


def test_the_hash_tells_where_rows_end() -> None:
    hashes = {read_given(rows).sha256 for rows in ([[1, 2], [3]], [[1], [2, 3]], [[1, 2, 3]])}
    assert len(hashes) == 3
    assert GivenText(("ab",)).sha256 != GivenText(("a", "b")).sha256


REFUSED: dict[str, tuple[Any, str]] = {
    "fractions": (torch.rand(2, 3), "found <Tensor 2x3 torch.float32>; allowed: whole numbers"),
    "a mask of another shape": ({"input_ids": IDS, "attention_mask": MASK[:2]}, "attention_mask is [2, 4], input_ids"),
    "images": ([{"input_ids": IDS, "pixel_values": IDS}], "holds pixel_values; images are read from files alone"),
    "two tensors": ([(IDS, MASK)], "a tuple of 2 tensors, which does not say what they are"),
    "two tensors of a loader": (
        DataLoader(TensorDataset(IDS, MASK), 2),
        "a list of 2 tensors, which does not say what",
    ),
    "a mask behind its ids": ((IDS, MASK), "item 2 of the text holds the ids 0 and 1 alone and has the shape of what"),
    "a mask in a row": (DataLoader(TensorDataset(IDS, MASK), None), "item 1 of the text holds the ids 0 and 1 alone"),
    "no tokens": (IDS[:, :0], "the text is empty"),
    "other columns": (Dataset.from_dict({"story": ["a"]}), "has the columns story, neither input_ids nor text"),
    "splits": (DatasetDict(a=Dataset.from_dict({"text": ["a"]})), "choose one of them: a"),
    "labels": (torch.tensor([[1, -100]]), "found the token id -100; ids are 0 or more"),
    "nothing": ([], "the text is empty; a"),
    "what was read before": (iter([]), "the text is empty; what gives its items once was read before: give a list; "),
    "all padding": ({"input_ids": IDS, "attention_mask": IDS * 0}, "the text is empty"),
    "strings and ids": (["a", [1, 2]], "strings and token ids; give one of them"),
    "a table of tables": (torch.ones(1, 1, 1, dtype=torch.long), "input_ids are [1, 1, 1]; allowed: [rows, tokens]"),
    "an object": (object(), "found <object>; allowed: a tensor of token ids"),
}


@pytest.mark.parametrize(("given", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_what_is_no_text_is_refused_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(TextError) as raised:
        read_given(given)
    assert message in str(raised.value)
    assert "tensor(" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_rows_of_one_length_stay_and_others_are_joined() -> None:
    rows = [torch.tensor(row) for row in UNPADDED]
    assert samples_of(rows, 2).tolist() == [[0, 1], [5, 6], [8, 9]]
    assert samples_of(rows, 4).tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert natural_shape(list(IDS)) == (3, 4)
    assert natural_shape(rows) == (2, 4)


def test_a_source_of_ids_gives_just_these_samples(plugins: Plugins) -> None:
    source: Any = plugins.registry.build("text", IDS)
    drawn = draw_samples(None, source, samples=3, seq_len=4, seed=0)
    assert drawn.ids.equal(IDS)
    assert drawn.record()["text"] == {"name": "in-memory", "sha256": source.sha256, "rows": 3, "tokens": 12}
    two = draw_samples(None, source, samples=2, seq_len=4, seed=0).ids
    assert len(two) == 2
    assert all(row in IDS.tolist() for row in two.tolist())
    with pytest.raises(TextError, match=r"4 samples of 4 tokens are wanted; .* which make 3"):
        draw_samples(None, source, samples=4, seq_len=4, seed=0)
    with pytest.raises(TextError, match="found yes; the text is token ids, which are read as they are: leave bos out"):
        draw_samples(tiny_tokenizer(), source, samples=3, seq_len=4, seed=0, bos="yes")


def test_a_recipe_can_only_describe_what_lay_in_memory(plugins: Plugins) -> None:
    source: Any = plugins.registry.build("text", ("once", "twice"))
    described: Any = plugins.registry.build("text", source.spec())
    assert described == source
    assert list(source.documents("calibration")) == ["once", "twice"]
    with pytest.raises(TextError, match="lay in the memory of a Python process"):
        described.check()


def test_errors_name_no_tensor_and_no_tree_of_modules(plugins: Plugins) -> None:
    for kind in ("merger", "similarity", "text", "width"):
        for value in (IDS.float(), torch.nn.Sequential(torch.nn.Linear(2, 2)), object(), [torch.rand(2)]):
            with pytest.raises(SwmError) as raised:
                plugins.registry.build(kind, value, ("key",))
            assert str(raised.value).startswith("key: ")
            assert not any(mark in str(raised.value) for mark in ("tensor(", "\n", " at 0x", "Linear("))
