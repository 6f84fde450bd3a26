"""What a run goes on with once its model has lost a part of its vocabulary: another tokenizer, other ids."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from swm.checkpoint.companions import copy_companions
from swm.errors import ModelError, PlanError
from swm.loading import models
from swm.model.token_ids import new_rows
from swm.model.view import ModelView
from swm.run.preparation import Prepared
from swm.vocabulary.cut_tokenizer import CutTokenizer
from swm.vocabulary.tokenizer_files import cut_tokenizer_files
from swm.vocabulary.tokenizer_json import TokenizerJson


def cut_tokenizer(
    source: models.ModelSource, tokenizer: Any, kept: Sequence[int], config: Any, trust_remote_code: bool = False
) -> CutTokenizer:
    """The tokenizer of the kept ids, loaded from files as they will be saved.

    Args:
        source: The original model.
        tokenizer: Its tokenizer.
        kept: The original ids that stay, ascending.
        config: The config of the model without the others.
        trust_remote_code: Whether code of the original model may be run.

    Raises:
        ModelError: The tokenizer cannot be cut, or gives its tokens other ids than the model.
    """
    original = TokenizerJson.of(tokenizer)
    with tempfile.TemporaryDirectory(prefix="swm-") as name:
        folder = Path(name)
        copy_companions(source.folder, folder, trust_remote_code)
        # Some tokenizers are told by the model's type.
        shutil.copyfile(source.folder / "config.json", folder / "config.json")
        cut_tokenizer_files(folder, original, kept)
        loaded = models.load_tokenizer(models.ModelSource(source.name, folder), trust_remote_code, config)
    new_ids = {old: new for new, old in enumerate(kept)}
    ids = loaded.get_vocab()
    for token, old in original.ids.items():
        if old in new_ids and ids.get(token) != new_ids[old]:
            raise ModelError(
                f"the tokenizer without the other tokens gives '{token}' the id {ids.get(token)}; the model has it at "
                f"{new_ids[old]}, so this vocabulary cannot be cut"
            )
    return CutTokenizer(loaded, kept, original)


def follow_vocabulary(prepared: Prepared, view: ModelView, trust_remote_code: bool) -> None:
    """Let a run go on with the tokenizer of the tokens that the model has left, and measure with it.

    Raises PlanError when it does so already and other tokens are left now.
    """
    if view.tokens is None or (prepared.cut is not None and prepared.cut.kept == view.tokens):
        return
    if prepared.cut is not None:
        raise PlanError("the vocabulary was cut a second time; a run can follow only one cut")
    cut = cut_tokenizer(prepared.source, prepared.tokenizer, view.tokens, view.config, trust_remote_code)
    prepared.cut = cut
    prepared.tokenizer = prepared.original.tokenizer = cut.tokenizer
    prepared.evaluator = prepared.evaluator.retokenized(cut.tokenizer, cut.kept)


def probe_ids(ids: Tensor, view: ModelView) -> Tensor:
    """The rows of original ids `[samples, seq]` in the model as it is now; the first row for those that are gone."""
    return ids if view.tokens is None else new_rows(ids, view.tokens).clamp(min=0)
