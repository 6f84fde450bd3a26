"""The texts of a run that chooses its recipe by itself: what is fitted to, trained on, and measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swm.errors import RecipeError, TextError, at
from swm.interfaces.text import Purpose, Share, TextSource, leaves, needs_model
from swm.plugins.registry import Registry, require_interface
from swm.run.taking import taken_text
from swm.text.calibration import wants_bos
from swm.text.source_text import source_stream
from swm.text.token_rows import samples_of

# Tokens that a perplexity is taken of: more give no other answer, fewer none.
MOST, FEWEST = 8192, 1024


@dataclass(frozen=True)
class Texts:
    """The sources, and what is to be said of them; `evaluation` is None where nothing can be held out."""

    calibration: TextSource
    training: TextSource
    evaluation: TextSource | None
    notes: Sequence[str] = field(default_factory=tuple)


def taken_texts(
    calibration: Any, training: Any, evaluate: bool, held_out: Mapping[str, Any], registry: Registry
) -> Texts:
    """The sources of what a user gave.

    Args:
        calibration: A text as in a recipe; None for the default one.
        training: The text of a training; None for the same.
        evaluate: Whether a part is held out and measured with.
        held_out: The source that keeps a part of another one for evaluation.
        registry: The sources that are known.

    Raises:
        RecipeError: For text that the model would have to write.
        TextError: For text that cannot be read.
    """
    notes = [] if calibration is not None else [f"no text was named, so it is {registry.default('text')}"]
    source = _source(calibration, registry, "calibration")
    trained = source if training is None else _source(training, registry, "recovery_text")
    if not evaluate:
        return Texts(source, trained, None, notes)
    if source.separates():
        return Texts(source, trained, source, notes)
    if any(_whole(leaf.text) for leaf in leaves(source)):
        which = "token ids, images and conversations cannot be held out"
        notes.append(f"nothing is measured, as {which}; swm evaluate measures the result on a text of its own")
        return Texts(source, trained, None, notes)
    parted = _parted(source, held_out, registry)
    return Texts(parted, parted if training is None else trained, parted, notes)


def _whole(source: TextSource) -> bool:
    """Whether no part of the source can be kept for one purpose."""
    given = (source.token_rows(), source.image_rows(), source.conversations())
    return not source.separates() and any(one is not None for one in given)


def _parted(source: TextSource, held_out: Mapping[str, Any], registry: Registry) -> TextSource:
    """The source with a part of each text in it held out, where it does not do that itself."""
    if source.separates():
        return source
    if source.parts():
        return source.with_parts([Share(_parted(part.text, held_out, registry), part.share) for part in source.parts()])
    return require_interface(TextSource, registry.build("text", {**held_out, "text": source}))


def _source(value: Any, registry: Registry, name: str) -> TextSource:
    source = require_interface(TextSource, registry.build("text", taken_text(value, registry, (name,)), (name,)))
    with at(name):
        if needs_model(source):
            raise RecipeError(
                f"'{source.title()}' is written by the model, which takes nobody knows how long; name a file, a data "
                "set or another text that is there already"
            )
        source.check()
    return source


def checked_count(source: TextSource, tokenizer: Any, seq_len: int, wanted: Sequence[int]) -> int:
    """How many samples the calibration text has, as far as the last of `wanted` are.

    Args:
        source: The text.
        tokenizer: Makes tokens of it; token ids need none.
        seq_len: The tokens of a sample.
        wanted: How many are needed at least and at most.

    Raises:
        TextError: There are fewer than the first, or the text is made of words, and there is no tokenizer.
    """
    least, most = wanted
    counts = [_count(leaf.text, tokenizer, seq_len, least, most) / leaf.share for leaf in leaves(source)]
    return min(most, *map(int, counts))


def _count(source: TextSource, tokenizer: Any, seq_len: int, least: int, most: int) -> int:
    """As `checked_count`, of one text.

    Args:
        source, tokenizer, seq_len: As there.
        least, most: How many are needed.
    """
    with at("calibration"):
        rows = source.token_rows()
        if rows is None and tokenizer is None:
            raise TextError(
                "the text is made of words, and there is no tokenizer; add tokenizer=..., or give token ids"
            )
        if rows is not None:
            tokens, count = sum(map(len, rows)), len(samples_of(rows, seq_len))
        else:
            width = seq_len - wants_bos(tokenizer, "auto")
            tokens = token_count(source, "calibration", tokenizer, most * width)
            count = tokens // width
        if count < least:
            raise TextError(
                f"text '{source.title()}' has {tokens:,} tokens for this; at least {least} samples of {seq_len} are "
                "needed, better ten times as many"
            )
    return count


def token_count(source: TextSource, purpose: Purpose, tokenizer: Any, wanted: int) -> int:
    """How many tokens a text has for a purpose.

    Args:
        source: The text.
        purpose: What it is read for.
        tokenizer: Makes tokens of it.
        wanted: More are not counted.
    """
    return min(wanted, len(source_stream(tokenizer, source, purpose, wanted).ids))
