"""The `vocabulary` stage: tokens that are not needed go, from the embedding, the head and the tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch

from swm.builtin.stages.kept_tokens import KeptTokens
from swm.builtin.steps.keep_tokens import KeepTokensStep
from swm.errors import PlanError, RecipeError, at
from swm.interfaces.stage import Setting, Stage, StageContext, StagePlan
from swm.interfaces.text import Calibration, TextSource, leaves, needs_model
from swm.interfaces.tokens_used import TokensUsed
from swm.interfaces.work import Work
from swm.model.ranges import format_ranges
from swm.model.token_ids import special_ids
from swm.model.vocabulary_surgery import check_vocabulary
from swm.text.source_text import source_text
from swm.text.tokens import stream_of, tokens_of
from swm.vocabulary.choice import TokenChoice, Vocabulary
from swm.vocabulary.proof import check_same_tokens
from swm.vocabulary.tokenizer_json import TokenizerJson

# Characters of the text that the cut tokenizer is tried on: a second or so.
TRIED = 1_000_000


@final
@dataclass(frozen=True)
class VocabularyStage(Stage):
    """Keeps the tokens that `keep` asks for; a text of these tokens alone is split as before and gets the same scores.

    With them stay all special and added tokens, single bytes where the tokenizer knows them, so that any text can
    still be written, and the tokens of which those that stay are merged. Needs a fast tokenizer (BPE, Unigram,
    WordPiece or WordLevel). Later stages read the calibration text in the new numbers, so all its tokens must stay
    then.
    """

    name: ClassVar[str] = "vocabulary"
    reads_reference: ClassVar[bool] = False
    removes: ClassVar[frozenset[str]] = frozenset({"tokens"})

    keep: KeptTokens

    def kept_states(self, layers: int) -> int:
        return 0

    def work(self, setting: Setting) -> Work | None:
        return Work()

    def texts(self) -> Sequence[TextSource]:
        return () if self.keep.text is None else (self.keep.text,)

    def check(self, setting: Setting) -> None:
        check_vocabulary(setting.config)
        rows = setting.config.get_text_config().vocab_size if setting.model is None else setting.model.vocabulary
        if self.keep.text is not None:
            with at("keep", "text"):
                self.keep.text.check()
        if self.keep.listed() and self.keep.listed()[-1] >= rows:
            raise RecipeError(f"found {self.keep.listed()[-1]}; the ids of the model go to {rows - 1}", ("keep", "ids"))
        if self.keep.size is not None and self.keep.size >= rows:
            raise RecipeError(f"found {self.keep.size}; the model has {rows} tokens, keep fewer", ("keep", "size"))

    def check_texts(self, tokenizer: Any) -> None:
        TokenizerJson.of(tokenizer)

    def check_calibration(self, tokenizer: Any, config: Any, calibration: Calibration) -> None:
        if self.keep.text is None or not needs_model(self.keep.text):
            rows = config.get_text_config().vocab_size
            vocabulary = Vocabulary(TokenizerJson.of(tokenizer), rows, frozenset(special_ids(config, rows)))
            calibration.renumbered(self._choose(vocabulary, tokenizer, calibration, self.keep.text).kept)

    def plan(self, context: StageContext) -> StagePlan:
        view, tokenizer = context.view, TokenizerJson.of(context.tokenizer)
        if view.tokens is not None:
            raise PlanError("the vocabulary was cut already; ask for all tokens in one stage")
        rows = view.vocabulary
        special = special_ids(view.config, rows) | special_ids(getattr(view.model, "generation_config", None), rows)
        source = None if self.keep.text is None else context.text(self.keep.text)
        vocabulary = Vocabulary(tokenizer, rows, frozenset(special))
        choice = self._choose(vocabulary, context.tokenizer, context.calibration, source)
        facts = {
            "tokens": {
                "before": rows,
                "after": len(choice.kept),
                "always_kept": choice.always,
                "asked": choice.asked,
                "parts": choice.parts,
            },
            TokensUsed.KEY: [used.record() for used in self._tokens_used(context, source)],
        }
        if len(choice.kept) == rows:
            return StagePlan([], facts)
        tried = _tried(context.tokenizer, context.calibration, source)
        check_same_tokens(tokenizer, tokenizer.cut(choice.kept), choice.kept, tried)
        return StagePlan([KeepTokensStep(format_ranges(choice.kept), rows)], facts)

    def _tokens_used(self, context: StageContext, source: TextSource | None) -> list[TokensUsed]:
        """What the choice was made from: the calibration text, the text of `keep`, or none."""
        if self.keep.size is not None:
            return context.calibration.tokens_used()
        read = [] if source is None else [leaf.text for leaf in leaves(source)]
        texts = [(text.title(), source_text(text, "calibration", context.tokenizer)) for text in read]
        return [TokensUsed(title, len(stream_of(context.tokenizer, text))) for title, text in texts]

    def _choose(
        self, vocabulary: Vocabulary, tokenizer: Any, calibration: Calibration, source: TextSource | None
    ) -> TokenChoice:
        """What stays; `source` is the text of `keep`, in a form that can be read."""
        if self.keep.size is not None:
            counts = torch.bincount(calibration.ids.flatten(), minlength=vocabulary.rows)
            with at("keep", "size"):
                return vocabulary.of_size(self.keep.size, counts.tolist())
        if source is None:
            return vocabulary.having(self.keep.listed())
        with at("keep", "text"):
            return vocabulary.having({i for ids in _ids(tokenizer, source) for i in ids})


def _tried(tokenizer: Any, calibration: Calibration, source: TextSource | None) -> Iterator[str]:
    """Texts to try the cut tokenizer on: those of `keep` as far as that is quick, and the calibration samples."""
    if source is not None:
        for leaf in leaves(source):
            yield from source_text(leaf.text, "calibration", tokenizer, TRIED).documents
    yield from tokenizer.batch_decode(calibration.ids)


def _ids(tokenizer: Any, source: TextSource) -> Iterator[list[int]]:
    """The ids of the text as a whole and of each document: at their ends they may differ."""
    for leaf in leaves(source):
        text = source_text(leaf.text, "calibration", tokenizer)
        yield torch.unique(stream_of(tokenizer, text)).tolist()
        for document in text.documents:
            yield torch.unique(tokens_of(tokenizer, document)).tolist()
