"""A model's tokenizer: loaded, tried, and bound to the number of embeddings that the model has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from swm.errors import ModelError, brief, listed
from swm.loading.config import cause
from swm.loading.source import ModelSource
from swm.loading.special_ids import embedding_count
from swm.model.quiet import quiet_transformers
from swm.text.vocabulary import bind

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tekken.json", "*.model", "vocab.*")


def load_tokenizer(source: ModelSource, trust_remote_code: bool = False, config: Any = None) -> Any:
    """The model's tokenizer. With the model's config it knows which ids have an embedding (`swm.text.vocabulary`).

    That of a model object is read from the files that it writes; None where none was given. Raises ModelError when
    there is none, and for one that loads and cannot be used.
    """
    from transformers import AutoTokenizer

    if source.given is not None and source.given.tokenizer is None:
        return None
    if not any(file for pattern in TOKENIZER_FILES for file in source.folder.glob(pattern)):
        raise ModelError(f"model '{source.name}' has no tokenizer: none of {listed(TOKENIZER_FILES)} in its folder")
    _check_special(source)
    # Without it transformers reads the config again, by a class that may not know the model type.
    known = {} if config is None else {"config": config}
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=trust_remote_code, **known)
    except Exception as error:  # the files of a tokenizer are read by three libraries
        raise ModelError(f"tokenizer of model '{source.name}' cannot be read: {cause(error)}") from error
    try:
        tokenizer("a", verbose=False)
        tokenizer.decode(tokenizer("a b", add_special_tokens=False, verbose=False)["input_ids"])
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            getattr(tokenizer, name)
    except Exception as error:
        raise ModelError(
            f"tokenizer of model '{source.name}' can be read and not used: {type(error).__name__}: {brief(error)}"
        ) from error
    if source.given is not None:
        source.given.check_same_tokens(tokenizer)
    rows = None if config is None else embedding_count(config)
    return tokenizer if rows is None else bind(tokenizer, rows)


def _check_special(source: ModelSource) -> None:
    """Raise ModelError for special tokens that are empty: looking one up never ends."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        try:
            settings = json.loads((source.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # loading says what is wrong with the file
        if not isinstance(settings, Mapping):
            continue
        empty = [key for key, value in settings.items() if key.endswith("_token") and _text(value) == ""]
        if empty:
            raise ModelError(
                f"tokenizer of model '{source.name}' cannot be used: {name} has {listed(empty)}: \"\"; write the "
                'token that is meant, as "<s>" for bos_token, or null for none'
            )


def _text(value: Any) -> Any:
    return value.get("content") if isinstance(value, Mapping) else value
