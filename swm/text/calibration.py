"""Calibration: token ids drawn from text with a seed, and their fingerprint."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from swm.errors import TextError
from swm.interfaces.text import Calibration, TextRow, TextSource, leaves, titles_of
from swm.text.cut_rows import begun, cut_rows
from swm.text.images import ImageReader
from swm.text.joined_samples import joined_samples, sample_counts
from swm.text.mixed_samples import mixed_samples
from swm.text.source_text import source_text
from swm.text.token_rows import draw_rows
from swm.text.tokens import HUGE, Text, read_text, stream_of, tokens_of, windows_of
from swm.text.vocabulary import Bos as Bos
from swm.text.vocabulary import bos_id
from swm.text.vocabulary import wants_bos as wants_bos

Sampling = Literal["windows", "documents"]


def draw_samples(
    tokenizer: Any,
    source: TextSource,
    *,
    samples: int,
    seq_len: int,
    seed: int,
    bos: Bos = "auto",
    sampling: Sampling = "windows",
    images: ImageReader | None = None,
) -> Calibration:
    """Draw `samples` distinct rows of `seq_len` tokens.

    `windows` are non-overlapping ones of all documents joined by blank lines, each with BOS if `bos` says so. A text
    with a document of more than 2,000,000 characters is not tokenised as a whole: the windows are those of parts of
    it, drawn with the seed. `documents` are what the Sliding-Window Merging, LLM-Pruner and Shortened LLaMA codes draw:
    a document that holds so many tokens, and a crop of it anywhere, so that BOS is there only if the crop begins the
    document. Conversations begin as their template has it, and follow one another with nothing between them. Of a mix,
    each source gives as many samples as its share says, by the largest remainder, and they stand evenly among those of
    the others.

    Args:
        tokenizer: Makes ids of the text.
        source: The text.
        samples: The number of rows.
        seq_len: The tokens of each row, BOS included.
        seed: The seed of all draws.
        bos: Whether each row begins with the BOS token; `auto` does what the tokenizer itself does.
        sampling: `windows` or `documents`.
        images: Makes samples of the images of a source that reads some; these begin as the model's processor has it.

    Returns:
        Token ids `[samples, seq_len]` with the parameters of their source and the seed.

    Raises:
        TextError: When the text is too short, with the number there is.
    """
    how: dict[str, Any] = {"seq_len": seq_len, "seed": seed, "bos": bos}
    if source.parts():
        parts = list(leaves(source))
        counts = sample_counts(parts, samples)
        drawn = []
        for part, count in zip(parts, counts, strict=True):
            try:
                drawn.append(draw_samples(tokenizer, part.text, samples=count, sampling=sampling, **how))
            except TextError as error:
                error.message = f"a share of {part.share:g} of {samples} samples is {count}: {error.message}"
                raise
        return joined_samples(drawn, titles_of(parts), source.spec(), seed)
    rows = source.image_rows()
    if rows is not None:
        drawn_rows = _mixed(tokenizer, source, rows, images, samples=samples, **how)
    else:
        drawn_rows = _drawn(tokenizer, source, samples=samples, sampling=sampling, **how)
    return replace(drawn_rows, titles=(source.title(),) * samples)


def _drawn(
    tokenizer: Any, source: TextSource, *, samples: int, seq_len: int, seed: int, bos: Bos, sampling: Sampling
) -> Calibration:
    """As `draw_samples`, of one source of text or token ids.

    Args:
        tokenizer, source, samples, seq_len, seed, bos, sampling: As there.

    Raises:
        TextError: As there.
    """
    ids_given = source.token_rows()
    if ids_given is not None:
        if bos != "auto" or sampling != "windows":
            key, said = ("bos", bos) if bos != "auto" else ("sampling", sampling)
            raise TextError(f"found {said}; the text is token ids, which are read as they are: leave {key} out", (key,))
        return draw_rows(ids_given, source, samples, seq_len, seed)
    if tokenizer is None:
        raise TextError("the text is made of words, and there is no tokenizer; add tokenizer=..., or give token ids")
    first = wants_bos(tokenizer, bos)
    text = source_text(source, "calibration", tokenizer)
    if sampling == "documents":
        ids = _crops(tokenizer, text, source.title(), samples, seq_len, seed, bos)
        return Calibration(ids, source.spec(), seed, {"sampling": sampling, **text.record()})
    ids = _windows(tokenizer, text, source.title(), samples, seq_len, torch.Generator().manual_seed(seed), first)
    how = {"sampling": "windows of parts"} if text.is_huge else {}
    return Calibration(ids, source.spec(), seed, {**how, **text.record()})


def _windows(
    tokenizer: Any, text: Text, title: str, samples: int, seq_len: int, generator: torch.Generator, first: bool
) -> Tensor:
    """Draw windows that do not overlap.

    Args:
        tokenizer: Makes ids of the text.
        text: The documents.
        title: What messages call the text.
        samples: The number of windows.
        seq_len: The tokens of each.
        generator: Draws them.
        first: Whether each begins with the BOS token.

    Returns:
        Token ids `[samples, seq_len]`.

    Raises:
        TextError: When the text is too short.
    """
    width = seq_len - first
    if text.apart:
        stream, token = stream_of(tokenizer, text), bos_id(tokenizer) if first else None
        rows = [row for row in cut_rows(stream, seq_len, token) if len(row) == seq_len]
        windows, width = torch.stack(rows) if rows else stream.new_empty((0, seq_len)), seq_len
    else:
        windows = windows_of(tokenizer, text, width, samples, generator)
    if len(windows) < samples:
        raise TextError(
            f"{samples} samples of {width} tokens need {samples * width} tokens; "
            f"text '{title}' has {len(stream_of(tokenizer, text))} (enough for {len(windows)} samples)"
        )
    ids = windows[torch.randperm(len(windows), generator=generator)[:samples].sort().values]
    if text.apart or not first:
        return ids
    return torch.cat([torch.full((samples, 1), tokenizer.bos_token_id), ids], dim=1)


def _mixed(
    tokenizer: Any, source: TextSource, rows: Iterable[TextRow], images: ImageReader | None, **wanted: Any
) -> Calibration:
    """As `draw_samples`, from rows of which some hold an image.

    Args:
        tokenizer: Makes ids of text.
        source: Where the rows are from.
        rows: The rows.
        images: Makes samples of images; None where nothing can.
        wanted: `samples`, `seq_len`, `seed` and `bos`.

    Raises:
        TextError: When there are too few rows or too little text, or nothing reads images here.
    """
    if images is None:
        raise TextError(f"text '{source.title()}' has images, which are not read here; leave the key for images out")
    title, seq_len, first = source.title(), wanted["seq_len"], wants_bos(tokenizer, wanted.pop("bos"))

    def windows(documents: Sequence[str], samples: int, generator: torch.Generator) -> Tensor:
        return _windows(tokenizer, read_text(documents, title), title, samples, seq_len, generator, first)

    mixed = mixed_samples(rows, title, images, windows, **wanted)
    return Calibration(mixed.ids, source.spec(), wanted["seed"], {}, mixed.images, images.placeholders)


def _crops(tokenizer: Any, text: Text, title: str, samples: int, seq_len: int, seed: int, bos: Bos) -> Tensor:
    """Crop documents by the draws of the released codes: Python's `randint` of a document, then of a place.

    Args:
        tokenizer: Makes ids of a document.
        text: The documents.
        title: What messages call the text.
        samples: The number of crops, each of another document.
        seq_len: The tokens of a crop.
        seed: The seed of all draws.
        bos: Whether a document begins with the BOS token.

    Returns:
        Token ids `[samples, seq_len]`.

    Raises:
        TextError: When too few documents have so many tokens.
    """
    numbers, documents = random.Random(seed), text.documents
    used: list[int] = []
    short: set[int] = set()
    crops: list[Tensor] = []
    while len(crops) < samples:
        if len(used) + len(short) == len(documents):
            raise TextError(
                f"{samples} samples need {samples} documents of {seq_len} tokens; text '{title}' has {len(used)} such "
                f"documents among {len(documents)}"
            )
        index = numbers.randint(0, len(documents) - 1)
        if index in used or index in short:
            continue
        ids = _document(tokenizer, documents[index], bos, text.apart)
        if len(ids) < seq_len:
            short.add(index)
            continue
        used.append(index)
        place = numbers.randint(0, len(ids) - seq_len)
        crops.append(ids[place : place + seq_len])
    return torch.stack(crops)


def _document(tokenizer: Any, document: str, bos: Bos, apart: bool) -> Tensor:
    """The ids of one document, with what the tokenizer adds to it unless `bos` says something else.

    Args:
        tokenizer: Makes the ids.
        document: The text.
        bos: Whether it begins with the BOS token.
        apart: Whether it says itself how it begins.
    """
    if bos == "auto" and len(document) <= HUGE and not apart:
        return torch.tensor(tokenizer(document, verbose=False)["input_ids"], dtype=torch.long)
    ids = tokens_of(tokenizer, document)
    if apart:
        return begun(ids, bos_id(tokenizer)) if bos == "yes" else ids
    return torch.cat([torch.tensor([tokenizer.bos_token_id]), ids]) if wants_bos(tokenizer, bos) else ids
