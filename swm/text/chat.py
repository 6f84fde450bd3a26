"""Conversations as text and token ids, by a chat template."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swm.errors import TextError, brief
from swm.interfaces.conversation import PLAIN, Conversation, Conversations
from swm.text.vocabulary import check_ids, encode, wants_bos

ASSISTANT = "assistant"
# Templates that write the date would write another text every day: a macro stands before the function of that name.
_DATE = {
    "%d": "26",
    "%b": "Jul",
    "%B": "July",
    "%m": "07",
    "%Y": "2024",
    "%y": "24",
    "%H:%M": "00:00",
}
_CLOCK = "strftime_now"
_STOPPED = (
    f"{{% macro {_CLOCK}(format) %}}{{{{ format "
    + " ".join(f"| replace('{mark}', '{value}')" for mark, value in _DATE.items())
    + " }}{% endmacro %}"
)
_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message.role | capitalize }}: "
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}\n\n{% endgeneration %}"
    "{% else %}{{ message.content }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant: {% endif %}"
)


@dataclass(frozen=True)
class ChatTokens:
    """Token ids of a conversation, and which of them are to be predicted."""

    ids: list[int]
    predicted: list[bool]


@dataclass(frozen=True)
class ChatWriter:
    """Writes the conversations of one source for one tokenizer. `title` is what messages call the source."""

    tokenizer: Any
    title: str
    template: str

    @classmethod
    def of(cls, tokenizer: Any, conversations: Conversations, title: str) -> ChatWriter:
        """With the template that the source names, or the tokenizer's own. Raises TextError where there is none."""
        if tokenizer is None:
            raise TextError(f"text '{title}' holds conversations, and there is no tokenizer; add tokenizer=...")
        if conversations.template == PLAIN:
            begin = "{{ bos_token }}" if wants_bos(tokenizer, "auto") else ""
            return cls(tokenizer, title, begin + _PLAIN_TEMPLATE)
        if conversations.template is not None:
            return cls(tokenizer, title, conversations.template)
        if not getattr(tokenizer, "chat_template", None):
            name = Path(str(getattr(tokenizer, "name_or_path", ""))).name or "the model"
            raise TextError(
                f"text '{title}' holds conversations, and the tokenizer of {name} has no chat template; add template: "
                f"{PLAIN} to the text, or template: FILE with a chat template of your own"
            )
        try:
            return cls(tokenizer, title, tokenizer.get_chat_template())
        except ValueError as error:
            raise TextError(f"text '{title}': {brief(error)}; add template: FILE with one of them") from error

    @property
    def _stopped(self) -> str:
        """The template with one date for ever, where it asks for one."""
        return _STOPPED + self.template if _CLOCK in self.template else self.template

    def text(self, conversation: Conversation) -> str:
        """The whole conversation as the template writes it."""
        return self._written(conversation, len(conversation.messages))

    def ids(self, conversation: Conversation) -> list[int]:
        """Its token ids: those of `apply_chat_template`, to which nothing is added."""
        return encode(self.tokenizer, self.text(conversation), add_special_tokens=False)

    def with_answers(self, conversation: Conversation) -> ChatTokens:
        """Its token ids, of which those are predicted that the assistant says.

        Raises TextError where the template marks no answers and does not write the beginning of a conversation as it
        writes the beginning of the whole.
        """
        if _MARKED.search(self.template):
            ids, marks = self._marked(conversation)
            return ChatTokens(check_ids(self.tokenizer, ids), [mark == 1 for mark in marks])
        spans = list(self._answers(conversation))
        if not getattr(self.tokenizer, "is_fast", False):
            raise TextError(
                f"text '{self.title}': this tokenizer does not say which characters a token stands for, so the "
                "assistant's tokens are not known; take predicted: all, or a template with generation marks"
            )
        encoded = self.tokenizer(
            self.text(conversation), add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        predicted = [
            any(start < end_of_span and end > begin for begin, end_of_span in spans)
            for start, end in encoded["offset_mapping"]
        ]
        return ChatTokens(check_ids(self.tokenizer, encoded["input_ids"]), predicted)

    def _answers(self, conversation: Conversation) -> Iterator[tuple[int, int]]:
        """Where what the assistant says begins and ends, in characters of the whole text."""
        whole, messages = self.text(conversation), conversation.messages
        for i, message in enumerate(messages):
            if message.role != ASSISTANT:
                continue
            through = self._written(conversation, i + 1)
            if i:
                before = self._written(conversation, i, add_generation_prompt=True)
                begin = len(before) if through.startswith(before) else -1
            else:
                # No template writes the beginning of nothing.
                begin = through.find(message.content.strip())
            if begin < 0 or not whole.startswith(through):
                raise TextError(
                    f"{conversation.where}: the chat template writes message {i + 1} otherwise within the whole "
                    "conversation, and has no generation marks, so the assistant's tokens are not known; take "
                    "predicted: all, or template: FILE with generation marks",
                    ("predicted",),
                )
            yield begin, len(through)

    def _written(self, conversation: Conversation, count: int, **options: Any) -> str:
        """The first `count` messages as text."""
        return str(self._applied(conversation, count, tokenize=False, **options))

    def _marked(self, conversation: Conversation) -> tuple[list[int], list[int]]:
        encoded = self._applied(
            conversation, len(conversation.messages), return_dict=True, return_assistant_tokens_mask=True
        )
        return encoded["input_ids"], encoded["assistant_masks"]

    def _applied(self, conversation: Conversation, count: int, **options: Any) -> Any:
        messages = [{"role": message.role, "content": message.content} for message in conversation.messages[:count]]
        try:
            return self.tokenizer.apply_chat_template(messages, chat_template=self._stopped, **options)
        except Exception as error:  # templates are programs of strangers
            raise TextError(
                f"{conversation.where}: the chat template does not take this conversation: {brief(error)}"
            ) from error
