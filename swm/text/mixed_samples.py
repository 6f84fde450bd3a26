"""Samples of a text of which some rows hold an image: as large a share of the samples as of the rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swm.errors import TextError
from swm.interfaces.text import TextRow
from swm.text.images import ImageReader
from swm.text.tokens import MAX_CHARACTERS

Windows = Callable[[Sequence[str], int, torch.Generator], Tensor]
"""Draws so many samples of text `[samples, seq]` from documents."""


@dataclass(frozen=True)
class MixedSamples:
    """Token ids `[samples, seq]`, and by their row what the samples with an image give the model beside them."""

    ids: Tensor
    images: Mapping[int, Mapping[str, Tensor]]


def mixed_samples(
    rows: Iterable[TextRow],
    title: str,
    reader: ImageReader,
    windows: Windows,
    *,
    samples: int,
    seq_len: int,
    seed: int,
) -> MixedSamples:
    """Draw samples of text and samples with one image each, and mix them evenly.

    A sample with an image begins with that image and the text of its row. The texts of the rows behind it fill it up;
    behind the last row the first follows.

    Args:
        rows: The rows, of which the first 20,000,000 characters are read.
        title: What messages call the text.
        reader: Makes samples of images.
        windows: Draws samples of text from the rows without an image.
        samples: The number of samples.
        seq_len: The tokens of each.
        seed: The seed of all draws.

    Raises:
        TextError: There are too few rows, or one cannot become a sample.
    """
    read = list(first_rows(rows))
    shown = [i for i, row in enumerate(read) if row.image is not None]
    plain = [row.text for row in read if row.image is None and row.text]
    count = _share(samples, len(shown), len(plain))
    if count < samples and not plain:
        raise TextError(
            f"{samples} samples need {samples} rows with an image; text '{title}' has {len(shown)}, and no row of text"
        )
    generator = torch.Generator().manual_seed(seed)
    text = iter(windows(plain, samples - count, generator) if count < samples else ())
    chosen = torch.randperm(len(shown), generator=generator)[:count].sort().values.tolist()
    made = {}
    for i, choice in enumerate(chosen):
        index = shown[choice]
        made[_place(i, count, samples)] = reader.sample(read[index], _following(read, index), seq_len)
    ids = [made[row].ids if row in made else next(text) for row in range(samples)]
    return MixedSamples(torch.stack(ids), {row: dict(sample.inputs) for row, sample in sorted(made.items())})


def _share(samples: int, shown: int, plain: int) -> int:
    """How many samples hold an image: their share of the rows, one at least, and not all where there is text."""
    count = max(1, round(samples * shown / max(1, shown + plain)))
    return min(count, shown, samples - 1 if plain and samples > 1 else samples)


def _place(number: int, count: int, samples: int) -> int:
    """The row of the sample with the image of this number, of `count`: evenly among all."""
    return (2 * number + 1) * samples // (2 * count)


def _following(rows: Sequence[TextRow], index: int) -> Iterator[str]:
    """The texts of all other rows, those behind this one first."""
    return (row.text for row in itertools.chain(rows[index + 1 :], rows[:index]) if row.text)


def first_rows(rows: Iterable[TextRow]) -> Iterator[TextRow]:
    """Rows up to the one with which there are 20,000,000 characters."""
    total = 0
    for row in rows:
        yield row
        total += len(row.text)
        if total >= MAX_CHARACTERS:
            return
