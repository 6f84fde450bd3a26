"""Text of others where it meets a medium: a terminal, Markdown, a figure. HTML is escaped by its templates.

Prompts, notes, names of models, what plugins say and what models answer may hold anything. Nothing of it may move a
cursor, hide what follows, or be taken for markup.
"""

from __future__ import annotations

import re

# Control characters, lone surrogates, and marks that turn the direction of what follows.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
MARKDOWN = re.compile(r"([\\`*\[\]|~])")


def visible(text: object) -> str:
    """The text with every character that would act instead of being seen as its escape: `\\x1b`. Line breaks stay."""
    return HIDDEN.sub(lambda match: _escape(match[0]), str(text).replace("\r\n", "\n"))


def one_line(text: object) -> str:
    """As `visible`, line breaks and tabs too."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def markdown(text: object) -> str:
    """One line of Markdown, also in a table, that shows the text and nothing else: no HTML, no link, no new cell."""
    plain = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKDOWN.sub(r"\\\1", plain)


def code(text: object) -> str:
    """A code span of Markdown; never in a table, where a pipe would end it."""
    plain = one_line(text)
    longest = max((len(ticks) for ticks in re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {plain} {fence}" if longest else f"{fence}{plain}{fence}"


def figure_text(text: object) -> str:
    """A label for matplotlib, which takes text between two `$` for a formula and hides labels that begin with `_`."""
    plain = visible(text).replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
