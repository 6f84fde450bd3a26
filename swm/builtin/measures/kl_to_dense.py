"""How far a model's next-token distributions are from those of the original model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from swm.interfaces.measure import Measure, MeasureContext, Measurement
from swm.interfaces.metric import Metric
from swm.interfaces.text import TextSource
from swm.measure.perplexity import TOKENS_PER_BATCH, PerplexityProtocol, TokenWindows, cut_windows
from swm.model.finite import not_finite
from swm.model.lengths import check_length
from swm.model.token_scores import TokenScores, all_places


@final
@dataclass(frozen=True)
class KlToDense(Measure):
    """`Σ p log(p / q)` in nats a token, `p` of the original model and `q` of this one, and how often both agree.

    The number `same-top-token` is the share of tokens at which both give the same next token the highest score. The
    text is read in windows of `seq_len` tokens, as for perplexity; a last one that is shorter does not count. Of a
    model whose vocabulary was cut, `p` is that of the tokens that are left.
    """

    name: ClassVar[str] = "kl-to-dense"
    needs_original: ClassVar[bool] = True

    text: TextSource
    seq_len: Annotated[int, Field(ge=2)] = 512
    max_tokens: Annotated[int, Field(ge=2)] | None = None
    bos: Literal["auto", "each", "first", "none"] = "auto"

    @classmethod
    def complete(cls, values: dict[str, Any], build: Any) -> dict[str, Any]:
        """Fill in the default text."""
        return values if "text" in values else {**values, "text": build("text", None)}

    def numbers(self) -> Sequence[Metric]:
        """Both numbers."""
        return [Metric("kl-to-dense", True, decimals=4), Metric("same-top-token", share=True, decimals=1)]

    def prepare(self, tokenizer: Any, config: Any) -> TokenWindows:
        """The windows. Raises TextError when the text fills none, RecipeError when the model takes none so long."""
        check_length(config, self.seq_len, ("seq_len",))
        protocol = PerplexityProtocol(self.text, self.seq_len, self.bos, self.max_tokens, rest="dropped")
        return cut_windows(tokenizer, protocol)

    def record(self, prepared: TokenWindows) -> Mapping[str, Any]:
        """What the windows were made of."""
        return {key: value for key, value in prepared.record.items() if key != "rest"}

    def tokens_together(self) -> int:
        """Those of a batch."""
        return max(self.seq_len, TOKENS_PER_BATCH)

    def measure(self, model: Any, tokenizer: Any, context: MeasureContext) -> Mapping[str, Measurement]:
        """Both numbers, one item a window. Raises ModelError where scores are not finite."""
        rows = context.prepared.rows
        divergences, agreements = [0.0] * len(rows), [1.0] * len(rows)
        if not context.is_original:
            original = context.original()
            divergences, agreements = [], []
            with context.task(len(rows)) as task:
                size = max(1, TOKENS_PER_BATCH // self.seq_len)
                for start in range(0, len(rows), size):
                    batch = torch.stack(rows[start : start + size])
                    divergence, agreement = compared(model, original, batch, context.kept)
                    divergences += divergence.mean(dim=1).tolist()
                    agreements += agreement.mean(dim=1).tolist()
                    task.advance(len(batch))
        numbers = {"kl-to-dense": divergences, "same-top-token": agreements}
        return {name: Measurement.of_items(items) for name, items in numbers.items()}


def compared(model: Any, original: Any, ids: Tensor, kept: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """Of each token of a batch but the last of a window: the divergence in nats, and 1 where the top tokens are equal.

    Args:
        model: The model.
        original: The original model.
        ids: Token ids `[samples, seq]` of the model.
        kept: The original ids of the model's tokens; None where it has all of them.

    Returns:
        Two tensors `[samples, seq - 1]`, float64.

    Raises:
        ModelError: The scores of one of them are not finite.
    """
    places = all_places(len(ids), ids.shape[1] - 1)
    chosen = None if kept is None else torch.tensor(kept)
    original_ids = ids if chosen is None else chosen[ids]
    scores = TokenScores(model, ids.to(_device(model)), places, use_cache=False)
    reference = TokenScores(original, original_ids.to(_device(original)), places, use_cache=False)
    divergences, agreements = [], []
    for rows, given in scores:
        wanted = reference.of(rows).to(given.device)
        wanted = wanted if chosen is None else wanted[:, chosen.to(wanted.device)]
        q, p = given.log_softmax(dim=-1), wanted.log_softmax(dim=-1)
        # What the original model never says counts nothing, whatever the other one thinks of it.
        divergences.append((p.exp() * (p - q)).masked_fill(p == -torch.inf, 0).sum(dim=-1, dtype=torch.float64).cpu())
        agreements.append((given.argmax(dim=-1) == wanted.argmax(dim=-1)).double().cpu())
    divergence = torch.cat(divergences)
    if not divergence.isfinite().all():
        raise not_finite("kl-to-dense cannot be measured: the scores of one of the models hold", scores.dtype)
    return divergence.view(len(ids), -1), torch.cat(agreements).view(len(ids), -1)


def _device(model: Any) -> torch.device:
    device: torch.device = next(model.parameters()).device
    return device
