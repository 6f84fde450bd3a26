"""The config of a model: read, and corrected where the weights and the vocabulary say otherwise."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swm.errors import ModelError, brief, listed, quoted
from swm.loading.model_class import stock_class
from swm.loading.own_folders import check_rebuilds, has_own_layers, own_config
from swm.loading.source import ModelSource
from swm.loading.special_ids import SPECIAL_IDS, correct_config, embedding_count
from swm.loading.weights import StoredWeights
from swm.model.quiet import quiet_transformers
from swm.model.text_config import text_config
from swm.text.vocabulary import without_invalid


def load_config(source: ModelSource, trust_remote_code: bool = False) -> Any:
    """The model's config; a tie that the weights contradict and special ids beyond the vocabulary are corrected.

    `corrections` says what was. Raises ModelError when the config cannot be read.
    """
    from transformers import AutoConfig

    if source.given is not None:
        return copy.deepcopy(source.given.config)
    if trust_remote_code:
        _check_own_code(source)
    said = _read(source.folder / "config.json")
    if has_own_layers(said):
        config = own_config(source, said)
        check_rebuilds(source, config)
        return _corrected(source, config)
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(source.folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # each architecture checks its config with errors of its own
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise ModelError(
                f"model '{source.name}' brings its own code; look at the .py files in {source.folder}, "
                "then allow them with trust_remote_code: true"
            ) from error
        raise ModelError(f"config of model '{source.name}' cannot be read: {cause(error)}") from error
    kind = stock_class(config)
    if kind is not None and kind.config_class is not type(config) and kind.config_class is type(text_config(config)):
        # The folder names the class of the text model alone.
        text_config(config).architectures = config.architectures
        config = text_config(config)
    return _corrected(source, config)


def _corrected(source: ModelSource, config: Any) -> Any:
    if getattr(text_config(config), "num_hidden_layers", None) == 0:
        raise ModelError(f"model '{source.name}' has no layers (num_hidden_layers: 0); nothing can be done with it")
    if getattr(config, "tie_word_embeddings", False) and _stored_apart(source, config):
        config.tie_word_embeddings = False
    correct_config(config)
    return config


def _check_own_code(source: ModelSource) -> None:
    """Raise ModelError where files of the model name code of another repository, which nobody looked at."""
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        for value in (_read(source.folder / name).get("auto_map") or {}).values():
            for named in value if isinstance(value, list) else [value]:
                if "--" in str(named):
                    raise ModelError(
                        f"{name} of model '{source.name}' names code of another repository ({quoted(named)}); only "
                        "code in the model's own folder is run. Put the code there and name it without 'owner/name--'"
                    )


def cause(error: BaseException) -> str:
    """A message in one line: the second one where the first only says that another error follows."""
    return brief(error.__cause__ or error)


def corrections(source: ModelSource, config: Any) -> list[str]:
    """What of the model's own config.json and generation_config.json was not believed, as notes for a report."""
    if source.given is not None:
        return []
    said, notes = _read(source.folder / "config.json"), list[str]()
    if said.get("tie_word_embeddings", not getattr(config, "tie_word_embeddings", False)) and _stored_apart(
        source, config
    ):
        notes.append(
            "config.json says that input and output embeddings are tied, and two different matrices are stored: "
            "they are used and saved untied (tie_word_embeddings: false)"
        )
    rows = embedding_count(config)
    for file, values in (("config.json", said), *_generation(source)):
        wrong = [
            f"{name}: {values[name]}"
            for name in SPECIAL_IDS
            if values.get(name) is not None and rows is not None and without_invalid(values[name], rows) != values[name]
        ]
        if wrong:
            notes.append(f"{file} has {listed(wrong)}; the model has {rows} embeddings, so that is left out")
    return notes


def _generation(source: ModelSource) -> list[tuple[str, Mapping[str, Any]]]:
    file = source.folder / "generation_config.json"
    return [(file.name, _read(file))] if file.is_file() else []


def _read(file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, Mapping) else {}


def _stored_apart(source: ModelSource, config: Any) -> bool:
    """Whether matrices that the model's class ties are stored twice, with different numbers."""
    tied = getattr(stock_class(config), "_tied_weights_keys", None)
    if not isinstance(tied, Mapping):
        return False
    try:
        with StoredWeights(source.name, source.folder) as stored:
            return any(stored.differ(one, other) for one, other in tied.items())
    except ModelError:
        return False  # loading the weights says what is wrong with them
