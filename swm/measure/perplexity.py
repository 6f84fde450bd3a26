"""Perplexity with its protocol written beside it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from swm.errors import TextError
from swm.interfaces.progress import Progress, Silent
from swm.interfaces.text import TextSource
from swm.measure.presets import apply_preset
from swm.model.finite import not_finite
from swm.model.token_ids import new_rows
from swm.model.token_scores import TokenScores, all_places
from swm.text.calibration import wants_bos
from swm.text.token_rows import pieces_of_rows
from swm.text.tokens import token_stream
from swm.text.vocabulary import bos_id
from swm.text.wikitext import rows_of

# Tokens in one forward pass.
TOKENS_PER_BATCH = 1024
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
    """Rows of token ids, all but the last of one length, with the protocol that made them."""

    rows: list[Tensor]
    record: dict[str, Any]

    def renumbered(self, kept: Sequence[int], whole: TokenWindows) -> TokenWindows:
        """These windows, in a vocabulary of the ids `kept`, by the protocol of the `whole` one where they are the same.

        Where the text is split otherwise than by the whole vocabulary, the protocol says how many tokens there are.
        """
        ids = torch.tensor(kept)
        same = [row.shape for row in self.rows] == [row.shape for row in whole.rows]
        if same and all(torch.equal(ids[row], other) for row, other in zip(self.rows, whole.rows, strict=True)):
            return TokenWindows(self.rows, whole.record)
        return TokenWindows(self.rows, {**self.record, "vocabulary_size": len(ids)})

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
    characters, parts are tokenised one by one.
    """
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
    read = token_stream(tokenizer, lambda: _documents(protocol, by_rows), protocol.text.title(), protocol.max_tokens)
    stream = read.ids[: protocol.max_tokens]
    if len(stream) < 2:
        raise TextError(f"perplexity needs at least 2 tokens; text '{protocol.text.title()}' has {len(stream)}")
    token = torch.tensor([] if bos == "none" else [bos_id(tokenizer)], dtype=torch.long)
    if bos == "first":
        stream = torch.cat([token, stream])
    width = protocol.seq_len - (bos == "each")
    rows = [stream[i : i + width] for i in range(0, len(stream), width)]
    if bos == "each":
        rows = [torch.cat([token, row]) for row in rows]
    shortest = protocol.seq_len if protocol.rest == "dropped" else 2
    rows = [row for row in rows if len(row) >= shortest]
    if not rows:
        raise TextError(f"text '{protocol.text.title()}' has {len(stream)} tokens and fills no window of {shortest}")
    joined = {"joined": "rows"} if by_rows else {}
    return TokenWindows(rows, _record(protocol, rows, bos, **joined, **read.text.record()))


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


def _documents(protocol: PerplexityProtocol, by_rows: bool) -> Iterable[str]:
    documents = protocol.text.documents("evaluation")
    return (rows_of(documents) or ()) if by_rows else documents


@torch.no_grad()
def perplexity(
    model: Any, windows: TokenWindows, progress: Progress | None = None, label: str = "perplexity"
) -> dict[str, Any]:
    """`exp` of the mean negative log-likelihood a token in nats, with the protocol and a standard error.

    The standard error is that of the mean over windows, carried to the perplexity by the delta method. Above e^700 the
    value is infinite, and has no standard error.

    Args:
        model: A causal language model.
        windows: The token windows that are scored.
        progress: Shows how many windows are done.
        label: What the progress calls the measurement.

    Returns:
        `value`, `nats_per_token`, `standard_error`, the sum of nats of every window, and the protocol.

    Raises:
        ModelError: When the model's scores are not finite.
    """
    device = next(model.parameters()).device
    size = max(1, TOKENS_PER_BATCH // max(map(len, windows.rows)))
    losses: list[float] = []
    counts: list[int] = []
    with (progress or Silent()).task(label, len(windows.rows)) as task:
        for batch in _batches(windows.rows, size):
            ids = torch.stack(batch).to(device)
            scores = TokenScores(model, ids, all_places(*ids[:, 1:].shape), use_cache=False)
            losses += _nats(scores, ids[:, 1:])
            counts += [ids.shape[1] - 1] * len(batch)
            if not all(map(math.isfinite, losses[-len(batch) :])):
                raise not_finite("perplexity cannot be measured: the model's scores hold", scores.dtype)
            task.advance(len(batch))
    tokens = sum(counts)
    mean = sum(losses) / tokens
    value = math.exp(mean) if mean < 700 else math.inf
    result: dict[str, Any] = {"value": value, "nats_per_token": mean}
    if len(losses) > 1 and math.isfinite(value):
        spread = sum((loss - mean * n) ** 2 for loss, n in zip(losses, counts, strict=True))
        result["standard_error"] = value * math.sqrt(spread * len(losses) / (len(losses) - 1)) / tokens
    # By window, so that two models that read the same can be compared window by window.
    return {**result, "window_nats": [round(loss, 4) for loss in losses], "protocol": windows.record}


def _nats(scores: TokenScores, tokens: Tensor) -> list[float]:
    """Negative log-likelihoods of windows of tokens `[windows, seq]` by the scores of all of them, in nats."""
    wanted = tokens.flatten()
    nats = [F.cross_entropy(given, wanted[rows].to(given.device), reduction="none") for rows, given in scores]
    return torch.cat(nats).view(tokens.shape).double().sum(dim=1).tolist()


def _batches(rows: list[Tensor], size: int) -> list[list[Tensor]]:
    """Rows of equal length together, at most `size` of them."""
    batches: list[list[Tensor]] = []
    for row in rows:
        if batches and len(batches[-1]) < size and len(batches[-1][0]) == len(row):
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
