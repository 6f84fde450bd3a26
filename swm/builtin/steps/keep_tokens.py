"""The step of a vocabulary plan: which tokens stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from swm.errors import PlanError
from swm.interfaces.stage import Step
from swm.model.ranges import parse_ranges
from swm.model.view import ModelView
from swm.model.vocabulary_surgery import keep_tokens


@final
@dataclass(frozen=True)
class KeepTokensStep(Step):
    """Of the `of` tokens of the vocabulary, those with the ids `tokens` stay."""

    name: ClassVar[str] = "keep-tokens"

    tokens: str
    of: int

    def __post_init__(self) -> None:
        try:
            kept = parse_ranges(self.tokens)
        except PlanError as error:
            raise ValueError(f"tokens: {error}") from None
        if not kept:
            raise ValueError("step keeps no token; at least one must stay")
        if kept[-1] >= self.of:
            raise ValueError(f"step keeps token {kept[-1]}; the vocabulary has {self.of}")

    def apply(self, view: ModelView, tensors: Mapping[str, Tensor]) -> None:
        rows = view.vocabulary
        if rows != self.of:
            raise PlanError(f"step expects a vocabulary of {self.of:,} tokens; the model has {rows:,}")
        keep_tokens(view, parse_ranges(self.tokens))

    def describe(self) -> str:
        return f"keep {len(parse_ranges(self.tokens)):,} of {self.of:,} tokens"
