"""How llama.cpp splits text into words before byte pairs are merged: by name, and as a tokenizer.json says the same.

The rules are recognised by what tokenizer.json says, not by the ids of a trial text, so that a tokenizer whose
vocabulary was cut has the name of the whole one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The kinds of tokenizers (`tokenizer.ggml.model`) that merge bytes, and pieces of text.
OF_BYTES, OF_PIECES = "gpt2", "llama"
Step = tuple[str, ...]
WORDS: Step = ("words",)
DIGITS: Step = ("digits",)
CASES = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SLASH_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class PreTokenizer:
    """A name of llama.cpp (`tokenizer.ggml.pre`), the steps that it stands for, whether words that are tokens are taken
    as they are, whatever merges say, and further names of the same (llama.cpp, src/llama-vocab.cpp)."""

    name: str
    steps: tuple[Step, ...]
    ignore_merges: bool = False
    aliases: tuple[str, ...] = ()


def _split(pattern: str) -> Step:
    # Some write the characters themselves, some how a pattern writes them.
    return ("split", pattern.replace("\r", r"\r").replace("\n", r"\n"))


PRE_TOKENIZERS = (
    PreTokenizer(
        "gpt-2",
        (WORDS,),
        aliases=("phi-2", "mpt", "olmo", "jais", "gigachat", "a.x-4.0", "mellum", "exaone4", "trillion"),
    ),
    PreTokenizer(
        "smollm",
        (DIGITS, WORDS),
        aliases=("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
    ),
    PreTokenizer(
        "llama-bpe",
        (_split(rf"{CASES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{REST}"),),
        True,
        ("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    ),
    PreTokenizer(
        "dbrx",
        (_split(rf"{CASES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{REST}"),),
        aliases=("smaug-bpe",),
    ),
    PreTokenizer(
        "qwen2",
        (_split(rf"{CASES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{REST}"),),
        aliases=("deepseek-r1-qwen", "kormo", "stablelm2", "hunyuan"),
    ),
    PreTokenizer(
        "tekken",
        (
            _split(
                rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}|{SLASH_REST}"
            ),
        ),
        True,
    ),
    PreTokenizer(
        "gpt-4o",
        (
            _split(
                rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CASES}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CASES}?|"
                rf"\p{{N}}{{1,3}}|{SLASH_REST}"
            ),
        ),
        aliases=("llama4",),
    ),
    PreTokenizer("deepseek-v3", (_split(r"\p{N}{1,3}"), _split("[一-龥぀-ゟ゠-ヿ]+"), _split(DEEPSEEK))),
    PreTokenizer(
        "deepseek-coder",
        (
            _split("[\r\n]"),
            _split(r"\s?\p{L}+"),
            _split(r"\s?\p{P}+"),
            _split("[一-龥ࠀ-一가-퟿]+"),
            DIGITS,
        ),
    ),
)


def named(name: str) -> PreTokenizer | None:
    """The pre-tokenizer of that name."""
    return next((row for row in PRE_TOKENIZERS if name in (row.name, *row.aliases)), None)


def as_json(steps: tuple[Step, ...]) -> dict[str, Any]:
    """The `pre_tokenizer` of a tokenizer.json that does these steps."""
    parts: list[dict[str, Any]] = []
    for kind, *pattern in (step for step in steps if step != WORDS):
        cut = {"type": "Digits", "individual_digits": True}
        split = {"type": "Split", "pattern": {"Regex": "".join(pattern)}, "behavior": "Isolated", "invert": False}
        parts.append(cut if kind == DIGITS[0] else split)
    words = WORDS in steps
    parts.append({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": words})
    return parts[0] if len(parts) == 1 else {"type": "Sequence", "pretokenizers": parts}


def steps_of(pre_tokenizer: Mapping[str, Any] | None) -> tuple[Step, ...] | str:
    """The steps of a `pre_tokenizer` of tokenizer.json, or why they are none of llama.cpp's."""
    if pre_tokenizer is None:
        return "it has no pre-tokenizer"
    kind = pre_tokenizer.get("type")
    parts = pre_tokenizer["pretokenizers"] if kind == "Sequence" else [pre_tokenizer]
    steps: list[Step] = []
    bytes_seen = False
    for part in parts:
        kind = part.get("type")
        if bytes_seen:
            return f"{kind} comes behind ByteLevel"
        if kind == "ByteLevel":
            bytes_seen = True
            if part.get("add_prefix_space"):
                return "it puts a space before every text (add_prefix_space)"
            if part.get("use_regex", True):
                steps.append(WORDS)
        elif kind == "Digits" and part.get("individual_digits"):
            steps.append(DIGITS)
        elif kind == "Split" and _is_cut(part):
            steps.append(_split(str(part["pattern"].get("Regex", ""))))
        else:
            return f"its {kind} is none that is known"
    return tuple(steps) if bytes_seen else "it has no ByteLevel"


def _is_cut(part: Mapping[str, Any]) -> bool:
    """Whether a Split only cuts. What matches may also be what is kept, where the pattern matches everything."""
    return (part.get("behavior"), bool(part.get("invert"))) in (("Isolated", False), ("Removed", True))
