"""The files of a tokenizer in a model's folder, cut to the tokens that stay."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swm.files.writing import write_text
from swm.vocabulary.tokenizer_json import TokenizerJson

# Vocabularies that are no text, or of a form of their own. The tokenizer.json beside them says the same.
LEFT_OUT = ("*.model", "*.tiktoken", "tekken.json", "vocab.*")


def cut_tokenizer_files(folder: Path, tokenizer: TokenizerJson, kept: Sequence[int]) -> list[str]:
    """Cut the files in place; returns what was left out, a line each.

    Args:
        folder: Holds copies of the files of the original tokenizer.
        tokenizer: The original tokenizer as it was loaded, for a folder without a tokenizer.json.
        kept: The ids that stay, ascending.

    Raises:
        ModelError: The tokenizer cannot be cut.
    """
    new_ids = {old: new for new, old in enumerate(kept)}
    file = folder / "tokenizer.json"
    whole = TokenizerJson(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else tokenizer
    cut = whole.cut(kept)
    write_text(file, _text(cut))
    done = {file.name, *_cut_vocabulary(folder, cut["model"]["vocab"], new_ids)}
    _cut_added(folder, new_ids)
    gone = sorted({path for pattern in LEFT_OUT for path in folder.glob(pattern) if path.name not in done})
    for path in gone:
        path.unlink()
    return [
        f"{path.name} was left out: it holds the whole vocabulary; tokenizer.json has that of this model"
        for path in gone
    ]


def _cut_vocabulary(folder: Path, vocabulary: Any, new_ids: Mapping[int, int]) -> set[str]:
    """Cut the vocabulary and the merges that stand in files of their own; returns the names of these files."""
    done = set()
    listed, merges = folder / "vocab.json", folder / "merges.txt"
    if listed.is_file():
        ids = json.loads(listed.read_text(encoding="utf-8"))
        kept = {token: new_ids[i] for token, i in ids.items() if i in new_ids}
        write_text(listed, _text(dict(sorted(kept.items(), key=lambda item: item[1]))))
        done.add(listed.name)
    if merges.is_file() and isinstance(vocabulary, dict):
        lines = merges.read_text(encoding="utf-8").split("\n")
        write_text(merges, "\n".join(line for line in lines if _stays(line, vocabulary)))
    words = folder / "vocab.txt"
    if words.is_file():
        lines = words.read_text(encoding="utf-8").split("\n")
        write_text(words, "".join(f"{line}\n" for i, line in enumerate(lines) if i in new_ids))
        done.add(words.name)
    return done


def _stays(line: str, vocabulary: Mapping[str, int]) -> bool:
    first, space, second = line.partition(" ")
    if not space or line.startswith("#version"):
        return True
    return all(token in vocabulary for token in (first, second, first + second))


def _cut_added(folder: Path, new_ids: Mapping[int, int]) -> None:
    """Renumber the added tokens in the files that list them."""
    added, config = folder / "added_tokens.json", folder / "tokenizer_config.json"
    if added.is_file():
        ids = json.loads(added.read_text(encoding="utf-8"))
        write_text(added, _text({token: new_ids[i] for token, i in ids.items() if i in new_ids}))
    if config.is_file():
        said = json.loads(config.read_text(encoding="utf-8"))
        if said.get("added_tokens_decoder"):
            tokens = said["added_tokens_decoder"].items()
            said["added_tokens_decoder"] = {str(new_ids[int(i)]): token for i, token in tokens if int(i) in new_ids}
            write_text(config, _text(said))


def _text(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
