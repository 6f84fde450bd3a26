"""What all drawings of a report share: the colours of the page's style, texts, and the element around them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

DENSE, COMPRESSED, TEXT, LINE = (
    "var(--dense, #8492a6)",
    "var(--compressed, #0f766e)",
    "var(--soft, #5a6675)",
    "var(--line, #d5dbe3)",
)
WIDTH = 760
# A box of this width has room for a number of two digits.
NARROW = 13


def label(x: float, y: float, text: str, anchor: str = "start") -> str:
    """A text of the drawing.

    Args:
        x, y: Where it stands.
        text: The text, which is escaped.
        anchor: Which part of it stands at `x`: `start`, `middle` or `end`.
    """
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="13" fill="{TEXT}">{escape(text)}</text>'


def number(x: float, y: float, text: str) -> str:
    """A small text in the middle of `x`."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="11" fill="{TEXT}">{escape(text)}</text>'


def svg(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    """The whole drawing.

    Args:
        title: Says what it shows to those who do not see it.
        width, height: Its size.
        parts: The elements in it.
    """
    return (
        f'<svg role="img" viewBox="0 0 {width:g} {height:g}" width="{width:g}" font-family="system-ui, sans-serif">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
