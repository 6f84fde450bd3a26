"""The class of a tokenizer beside a model type that transformers does not know."""

from __future__ import annotations

import json
from pathlib import Path

from swm.checkpoint.shared_settings import shared_class
from swm.files.json_text import dumps
from swm.files.writing import write_text

FILE = "tokenizer_config.json"


def name_tokenizer_class(parent: Path, folder: Path, trust_remote_code: bool = False) -> list[str]:
    """Write into a folder with a model type of its own which class the parent's tokenizer is read as.

    For some model types transformers takes another class than the file names, which gives other ids of a text.

    Args:
        parent: The folder of the original model.
        folder: The folder with the copied tokenizer files.
        trust_remote_code: Whether code in the parent's folder may run.

    Returns:
        What was changed, in a sentence; nothing where the file names the class, or the tokenizer cannot be read.
    """
    from transformers import AutoTokenizer

    file = folder / FILE
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        taken = AutoTokenizer.from_pretrained(parent, trust_remote_code=trust_remote_code)
    except Exception:  # the check that follows says what is wrong with it
        return []
    named, kind = str(settings.get("tokenizer_class")), shared_class(type(taken).__name__)
    own = not type(taken).__module__.startswith("transformers.")
    if own or "auto_map" in settings or shared_class(named).removesuffix("Fast") == kind.removesuffix("Fast"):
        return []
    write_text(file, dumps({**settings, "tokenizer_class": kind}, indent=2) + "\n")
    return [f"{FILE} named {named} and names {kind}, which transformers takes for the original's model type"]
