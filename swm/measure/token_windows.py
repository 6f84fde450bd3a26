"""A text as windows of token ids, by a protocol that is written beside them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from swm.errors import TextError
from swm.interfaces.text import Share, TextSource, leaves, titles_of
from swm.interfaces.tokens_used import TokensUsed
from swm.measure.presets import apply_preset
from swm.model.token_ids import new_rows
from swm.text.cut_rows import begun, cut_rows
from swm.text.shares import apportioned
from swm.text.source_text import source_stream
from swm.text.token_rows import pieces_of_rows
from swm.text.vocabulary import bos_id, wants_bos
from swm.text.wikitext import rows_of

# What others measure with: LLM-Pruner, Shortened LLaMA and SWM in windows of 128 with one BOS token at the very start;
# GPTQ and all who follow it in windows of 2048 without BOS. Both leave out the rest that fills no window, and join the
# rows of the Hub's data set of WikiText, which are lines, by blank lines.
PRESETS: dict[str, dict[str, Any]] = {
    "llm-pruner-128": {"seq_len": 128, "bos": "first", "rest": "dropped", "joined": "rows"},
    "standard-2048": {"seq_len": 2048, "bos": "none", "rest": "dropped", "joined": "rows"},
}


@dataclass(frozen=True)
class PerplexityProtocol:
    """Non-overlapping windows of `seq_len` tokens over a text, weighted by token.

    `bos` says where the BOS token stands: in front of `each` window (and counted in `seq_len`), of the `first` one
    alone, or nowhere (`none`); `auto` is `each` for tokenizers that add one themselves, else `none`. `max_tokens` ends
    the text early. `rest` says whether a last shorter window counts. A `preset` stands for the protocol of others.
    """

    text: TextSource
    seq_len: Annotated[int, Field(ge=2)] = 512
    bos: Literal["auto", "each", "first", "none"] = "auto"
    max_tokens: Annotated[int, Field(ge=2)] | None = None
    rest: Literal["counted", "dropped"] = "counted"
    preset: Literal["llm-pruner-128", "standard-2048"] | None = None
    joined: Literal["documents", "rows"] | None = None

    @classmethod
    def complete(cls, values: dict[str, Any], build: Any) -> dict[str, Any]:
        """Fill in what a preset says. Raises RecipeError for a value beside it that says something else."""
        apply_preset(values, PRESETS)
        return values


@dataclass(frozen=True)
class TokenWindows:
    """Rows of token ids, all but the last of one length, with the protocol that made them.

    `leads` and `counts` are of rows that were split anew: how many tokens stand before the first one that is scored,
    and how many tokens a row counts. Without them one token stands before, and a row counts the others.
    """

    rows: list[Tensor]
    record: dict[str, Any]
    leads: Sequence[int] = ()
    counts: Sequence[int] = ()

    @property
    def longest(self) -> int:
        """The tokens of the longest row."""
        return max(map(len, self.rows))

    def lead(self, row: int) -> int:
        """How many tokens of a row stand before the first one that is scored."""
        return self.leads[row] if self.leads else 1

    def tokens(self) -> list[int]:
        """How many tokens each row counts."""
        return [*self.counts] or [len(row) - 1 for row in self.rows]

    def scored(self) -> int:
        """How many tokens are scored in all rows."""
        return sum(len(row) - self.lead(i) for i, row in enumerate(self.rows))

    def of_fewer_tokens(self, size: int) -> TokenWindows:
        """These windows, with a protocol that says how many tokens there are to choose from."""
        return replace(self, record={**self.record, "vocabulary_size": size})

    def by_new_ids(self, kept: Sequence[int]) -> TokenWindows:
        """These windows by the ids of a vocabulary of the tokens `kept` alone. Raises TextError where it lacks one."""
        rows = [new_rows(row, kept) for row in self.rows]
        gone = sorted(set(torch.cat(self.rows)[torch.cat(rows) < 0].tolist()))
        if gone:
            raise TextError(
                f"{len(gone)} tokens of the perplexity's text do not stay (id {gone[0]} is one), and token ids cannot "
                "be split otherwise; keep its tokens, or give the text as strings"
            )
        return TokenWindows(rows, self.record)


def cut_windows(tokenizer: Any, protocol: PerplexityProtocol) -> TokenWindows:
    """Tokenise the text and cut it. Raises TextError when it holds fewer than two tokens.

    With `max_tokens`, no more is tokenised than that takes; of a text with a document of more than 2,000,000
    characters, parts are tokenised one by one. Of a mix, each source gives its share of the tokens.
    """
    if protocol.text.parts():
        return _mixed_windows(tokenizer, protocol)
    given = protocol.text.token_rows()
    if given is not None:
        return _given_windows(given, protocol)
    if tokenizer is None:
        raise TextError("the text is made of words, and there is no tokenizer; add tokenizer=..., or give token ids")
    bos = protocol.bos
    if bos == "auto":
        bos = "each" if wants_bos(tokenizer, "auto") else "none"
    elif bos != "none":
        wants_bos(tokenizer, "yes")
    by_rows = protocol.joined == "rows" and rows_of(protocol.text.documents("evaluation")) is not None
    select = _rows_of_wikitext if by_rows else None
    read = source_stream(tokenizer, protocol.text, "evaluation", protocol.max_tokens, select)
    stream = read.ids[: protocol.max_tokens]
    if len(stream) < 2:
        raise TextError(f"perplexity needs at least 2 tokens; text '{protocol.text.title()}' has {len(stream)}")
    token = None if bos == "none" else bos_id(tokenizer)
    if bos == "first":
        stream = begun(stream, token) if read.text.apart else torch.cat([torch.tensor([token]), stream])
    width = protocol.seq_len - (bos == "each")
    if read.text.apart:
        rows = cut_rows(stream, protocol.seq_len, token if bos == "each" else None)
    else:
        rows = [stream[i : i + width] for i in range(0, len(stream), width)]
        rows = [torch.cat([torch.tensor([token]), row]) for row in rows] if bos == "each" else rows
    shortest = protocol.seq_len if protocol.rest == "dropped" else 2
    rows = [row for row in rows if len(row) >= shortest]
    if not rows:
        raise TextError(f"text '{protocol.text.title()}' has {len(stream)} tokens and fills no window of {shortest}")
    joined = {"joined": "rows"} if by_rows else {}
    return TokenWindows(rows, _record(protocol, rows, bos, **joined, **read.text.record()))


def _mixed_windows(tokenizer: Any, protocol: PerplexityProtocol) -> TokenWindows:
    """The windows of each source of a mix, one source behind the other; as many as the shares allow."""
    parts = list(leaves(protocol.text))
    shares, most = [part.share for part in parts], protocol.max_tokens
    have = [_count_tokens(tokenizer, part, most) for part in parts]
    total = most or math.floor(min(count / share for count, share in zip(have, shares, strict=True)))
    rows: list[Tensor] = []
    used: list[TokensUsed] = []
    bos = ""
    for part, title, count, known in zip(parts, titles_of(parts), apportioned(total, shares), have, strict=True):
        if not 2 <= count <= known:
            raise TextError(
                f"text '{title}' has {known} tokens; its share of {part.share:g} of {total} tokens is "
                f"{count}, and at least 2 are needed"
            )
        windows = cut_windows(tokenizer, replace(protocol, text=part.text, max_tokens=count))
        rows, bos = [*rows, *windows.rows], windows.record["bos"]
        used.append(TokensUsed(title, windows.record["scored_tokens"]))
    return TokenWindows(rows, _record(protocol, rows, bos, **{TokensUsed.KEY: [one.record() for one in used]}))


def _count_tokens(tokenizer: Any, part: Share, most: int | None) -> int:
    """How many tokens a source has, as far as it matters."""
    given = part.text.token_rows()
    enough = None if most is None else math.ceil(most * part.share) + 1
    return (
        sum(map(len, given))
        if given is not None
        else len(source_stream(tokenizer, part.text, "evaluation", enough).ids)
    )


def _given_windows(given: Sequence[Tensor], protocol: PerplexityProtocol) -> TokenWindows:
    """Rows of ids in pieces of at most `seq_len` tokens: nothing is put in front of them, and none are joined."""
    for key, plain in (("preset", None), ("bos", "auto"), ("joined", None)):
        if getattr(protocol, key) != plain:
            raise TextError(
                f"found {getattr(protocol, key)}; the text is token ids, which are read as they are: leave {key} out",
                (key,),
            )
    left, rows = protocol.max_tokens, list[Tensor]()
    for row in given:
        rows.append(row if left is None else row[:left])
        left = left if left is None else left - len(rows[-1])
        if left == 0:
            break
    shortest = protocol.seq_len if protocol.rest == "dropped" else 2
    rows = pieces_of_rows(rows, protocol.seq_len, shortest)
    if not rows:
        raise TextError(f"text '{protocol.text.title()}' has no row of {shortest} tokens")
    return TokenWindows(rows, _record(protocol, rows, bos="as given"))


def _record(protocol: PerplexityProtocol, rows: Sequence[Tensor], bos: str, **read: Any) -> dict[str, Any]:
    """What is written beside a perplexity: how its text was cut, and what came of it."""
    return {
        "text": protocol.text.spec(),
        "seq_len": protocol.seq_len,
        "bos": bos,
        "rest": protocol.rest,
        **read,
        "windows": len(rows),
        "scored_tokens": sum(len(row) - 1 for row in rows),
        "sha256": hashlib.sha256(torch.cat(list(rows)).numpy().tobytes()).hexdigest(),
    }


def _rows_of_wikitext(documents: Iterable[str]) -> Iterable[str]:
    return rows_of(documents) or ()
