"""Calibration: the samples of text that the strategies see."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from swm.errors import TextError
from swm.interfaces.tokens_used import TokensUsed
from swm.model.samples import Samples
from swm.model.token_ids import new_rows
from swm.shown.values import short_repr


@dataclass(frozen=True)
class Calibration:
    """Token ids `[samples, seq_len]` (int64), where they come from and how they were drawn, and a sha256 of them."""

    ids: Tensor
    source: dict[str, Any]
    seed: int
    drawn: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    """By its row, what a sample with an image gives the model beside its ids."""
    placeholders: Sequence[int] = ()
    """The ids that stand for pieces of an image."""
    titles: Sequence[str] = ()
    """What messages call the source of each sample; empty where nobody said."""

    __repr__ = short_repr

    @property
    def samples(self) -> Samples:
        """The ids with the images: what a model is run on."""
        return Samples(self.ids, self.images, self.placeholders)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.ids.numpy().tobytes())
        for row, inputs in sorted(self.images.items()):
            for name, value in sorted(inputs.items()):
                digest.update(f"{row} {name} {value.dtype} {list(value.shape)}".encode())
                digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def first(self, samples: int | None) -> Calibration:
        """The first so many samples; all of them with None, or where there are no more."""
        if samples is None or samples >= len(self.ids):
            return self
        images = {row: inputs for row, inputs in self.images.items() if row < samples}
        return replace(self, ids=self.ids[:samples], images=images, titles=self.titles[:samples])

    def renumbered(self, kept: Sequence[int]) -> Calibration:
        """The same text by its ids in a vocabulary of which the ids `kept`, ascending, are left.

        Raises TextError when a token of the text is not among them.
        """
        rows = new_rows(self.ids, kept)
        gone = sorted(set(self.ids[rows < 0].tolist()))
        if gone:
            raise TextError(
                f"{len(gone)} tokens of the calibration text do not stay (id {gone[0]} is one), and later stages read "
                "that text; keep its tokens, or put this stage behind them"
            )
        return replace(self, ids=rows)

    def tokens_used(self, searched: int | None = None) -> list[TokensUsed]:
        """How many tokens of which source there are; with `searched`, how many of them in so many first samples."""
        samples, seq_len = self.ids.shape
        titles = self.titles or [str(self.source.get("name", "text"))] * samples
        return [
            TokensUsed(
                title,
                titles.count(title) * seq_len,
                samples=titles.count(title),
                searched=None if searched is None else titles[:searched].count(title) * seq_len,
            )
            for title in dict.fromkeys(titles)
        ]

    def record(self) -> dict[str, Any]:
        """What the report says of it."""
        samples, seq_len = self.ids.shape
        return {
            "text": self.source,
            "samples": samples,
            "seq_len": seq_len,
            **({"images": len(self.images)} if self.images else {}),
            **self.drawn,
            "seed": self.seed,
            "sha256": self.fingerprint,
            TokensUsed.KEY: [used.record() for used in self.tokens_used()],
        }
