"""The settings of sources that may hold conversations."""

from __future__ import annotations

from typing import Any

from swm.builtin.texts.chat_rows import template_text
from swm.errors import TextError

DEFAULTS = {"template": None, "predicted": "all"}


def without_defaults(spec: dict[str, Any]) -> dict[str, Any]:
    """A source's name and parameters without these settings, where they say nothing: most text is no conversation."""
    return {key: value for key, value in spec.items() if key not in DEFAULTS or value != DEFAULTS[key]}


def check_settings(template: str | None, predicted: str, title: str, is_chat: bool) -> None:
    """Raise TextError for a template that cannot be read, and for settings of conversations where there are none.

    Args:
        template: The template that is named.
        predicted: What training predicts.
        title: What messages call the source.
        is_chat: Whether the source holds conversations.
    """
    given = {"template": template, "predicted": predicted}
    key = next((key for key, value in given.items() if value != DEFAULTS[key]), None)
    if key is not None and not is_chat:
        raise TextError(f"found {given[key]}; '{title}' holds no conversations: leave {key} out", (key,))
    template_text(template)
