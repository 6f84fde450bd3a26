"""A tokenizer.json: which tokens must stay, and the same tokenizer with fewer of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from swm.errors import ModelError, listed
from swm.vocabulary.byte_pairs import BytePairs
from swm.vocabulary.token_model import TokenModel
from swm.vocabulary.unigram import Unigram
from swm.vocabulary.words import Words

MODELS: Mapping[str, type[TokenModel]] = {
    "BPE": BytePairs,
    "Unigram": Unigram,
    "WordPiece": Words,
    "WordLevel": Words,
}


class TokenizerJson:
    """What a fast tokenizer consists of, as plain data."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        """Raises ModelError for a kind of model that cannot be cut."""
        self.data = data
        kind = _kind(data["model"])
        if kind not in MODELS:
            raise ModelError(f"the vocabulary of a tokenizer of kind '{kind}' cannot be cut; only {listed(MODELS)} can")
        self.model = MODELS[kind](data["model"])
        self.added: dict[str, int] = {token["content"]: token["id"] for token in data.get("added_tokens", ())}
        self.ids: dict[str, int] = {**self.model.ids, **self.added}
        self.tokens = {i: token for token, i in self.ids.items()}

    @classmethod
    def of(cls, tokenizer: Any) -> TokenizerJson:
        """That of a loaded tokenizer. Raises ModelError for one that is no fast tokenizer."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or not hasattr(backend, "to_str"):
            raise ModelError(
                f"the vocabulary of a {type(tokenizer).__name__} cannot be cut: it is no fast tokenizer, which a "
                "tokenizer.json describes"
            )
        return cls(json.loads(backend.to_str()))

    def always_kept(self) -> set[int]:
        """The ids that stay whatever else goes: added and special tokens, and what any text may be split into."""
        names = {*self.added, *self.model.always_kept(), *(_alphabet(self.data) & self.ids.keys())}
        padding = self.data.get("padding") or {}
        special = _processor_ids(self.data.get("post_processor"))
        return {*(self.ids[name] for name in names), *special, *([padding["pad_id"]] if "pad_id" in padding else [])}

    def closed(self, ids: Iterable[int]) -> set[int]:
        """The ids with those of all tokens that must stay with them."""
        given = set(ids)
        named = [self.tokens[i] for i in given if i in self.tokens]
        return given | {self.ids[part] for token in named for part in self.parts(token)}

    def parts(self, token: str) -> Iterable[str]:
        """The tokens that must stay with this one."""
        return self.model.parts(token) if token in self.model.ids else ()

    def cut(self, kept: Sequence[int]) -> dict[str, Any]:
        """The data of the tokenizer with these ids alone, which get the numbers from 0 on in their order.

        Raises ModelError when the tokens that stay would get other numbers.
        """
        new_ids = {old: new for new, old in enumerate(kept)}
        added = [
            {**token, "id": new_ids[token["id"]]}
            for token in self.data.get("added_tokens", ())
            if token["id"] in new_ids
        ]
        data = {**self.data, "model": self.model.cut(new_ids), "added_tokens": added}
        try:
            data["post_processor"] = _renumbered(self.data.get("post_processor"), new_ids)
        except KeyError as error:
            raise ModelError(f"the tokenizer adds the id {error} to texts, which does not stay") from None
        padding = self.data.get("padding")
        if padding:
            pad = new_ids.get(padding["pad_id"])
            data["padding"] = None if pad is None else {**padding, "pad_id": pad}
        self._check(data, new_ids)
        return data

    def _check(self, data: Mapping[str, Any], new_ids: Mapping[int, int]) -> None:
        from tokenizers import Tokenizer

        cut = Tokenizer.from_str(json.dumps(data)).get_vocab()
        wrong = {token for token, old in self.ids.items() if cut.get(token) != new_ids.get(old)}
        if wrong or len(cut) != sum(old in new_ids for old in self.tokens):
            shown = sorted(wrong)[0] if wrong else "another token"
            raise ModelError(f"the tokenizer cannot be cut: its token '{shown}' would not get the number of its row")


def _kind(model: Mapping[str, Any]) -> str:
    """The kind of the model; files of old releases do not name it."""
    if "type" in model:
        return str(model["type"])
    return "BPE" if "merges" in model else "Unigram" if isinstance(model.get("vocab"), list) else "WordLevel"


def _alphabet(data: Mapping[str, Any]) -> set[str]:
    """The letters that stand for bytes and for spaces: what a text is written with before it is split into tokens."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters: set[str] = set()
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        for component in _components(data.get(part)):
            if component.get("type") == "ByteLevel":
                letters |= set(ByteLevel.alphabet())
            # What stands for a space is no space again when it was split into bytes.
            letters |= {
                component[key] for key in ("content", "replacement", "prepend") if isinstance(component.get(key), str)
            }
    return letters


def _components(part: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, Mapping):
        yield part
        for value in part.values():
            yield from _components(value)
    elif isinstance(part, list):
        for value in part:
            yield from _components(value)


def _processor_ids(processor: Any) -> set[int]:
    """The ids that a post-processor adds to every text."""
    ids: set[int] = set()
    for component in _components(processor):
        if component.get("type") == "TemplateProcessing":
            ids |= {i for token in component["special_tokens"].values() for i in token["ids"]}
        ids |= {component[key][1] for key in ("sep", "cls") if isinstance(component.get(key), list)}
    return ids


def _renumbered(part: Any, new_ids: Mapping[int, int]) -> Any:
    """A post-processor with the new numbers of its special tokens."""
    if isinstance(part, list):
        return [_renumbered(value, new_ids) for value in part]
    if not isinstance(part, Mapping):
        return part
    data = {key: _renumbered(value, new_ids) for key, value in part.items()}
    if part.get("type") == "TemplateProcessing":
        data["special_tokens"] = {
            name: {**token, "ids": [new_ids[i] for i in token["ids"]]} for name, token in part["special_tokens"].items()
        }
    for key in ("sep", "cls"):
        if isinstance(part.get(key), list):
            data[key] = [part[key][0], new_ids[part[key][1]]]
    return data
