"""An image as a sample: its file read, and written with text by the processor of a model of images and text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from swm.errors import TextError, brief
from swm.interfaces.text import TextRow
from swm.text.tokens import CHARACTERS_A_TOKEN, PART
from swm.text.vocabulary import check_ids, encode

FORMATS = ("PNG", "JPEG")


@dataclass(frozen=True)
class ImageSample:
    """Token ids `[seq]`, and what the model is given beside them for the image, as a batch of one."""

    ids: Tensor
    inputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class ImageReader:
    """Makes samples of images by a model's `processor`; `placeholders` are the ids that stand for pieces.

    `tokenizer` is the model's, which knows the ids that have an embedding.
    """

    processor: Any
    tokenizer: Any
    placeholders: Sequence[int]

    def sample(self, row: TextRow, following: Iterator[str], seq_len: int) -> ImageSample:
        """An image with the text of its row, cut behind `seq_len` tokens, and filled up with text where it is shorter.

        Args:
            row: A row with an image.
            following: The texts that fill it up, joined by blank lines.
            seq_len: The tokens of the sample.

        Raises:
            TextError: With the place of the row, where the image cannot be read, its tokens alone fill the sample, or
                all text is too short.
        """
        image = read_image(row)
        longest = max(PART, CHARACTERS_A_TOKEN * seq_len)
        text = row.text[:longest]
        while True:
            ids, inputs = self._written(image, text, row)
            self._check_room(ids, seq_len, row)
            if len(ids) >= seq_len:
                break
            more = self._enough(following, seq_len - len(ids), longest)
            if not more:
                raise TextError(
                    f"{row.where}: the image and all text of the file are {len(ids)} tokens, a sample is {seq_len}; a "
                    "smaller calibration seq_len, or more text, will do"
                )
            text = "\n\n".join([text, *more] if text else more)
        check_ids(self.tokenizer, ids[:seq_len].tolist())
        return ImageSample(ids[:seq_len], {name: _cut(value, len(ids), seq_len) for name, value in inputs.items()})

    def _enough(self, following: Iterator[str], tokens: int, longest: int) -> list[str]:
        """Texts with so many tokens, or all that are left; without what stands for images of their own."""
        texts = []
        for text in following:
            plain = _without_marks(text[:longest], self.processor).strip()
            if plain:
                texts.append(plain)
                tokens -= len(encode(self.tokenizer, plain, add_special_tokens=False))
            if tokens <= 0:
                break
        return texts

    def _written(self, image: Any, text: str, row: TextRow) -> tuple[Tensor, dict[str, Tensor]]:
        try:
            inputs = written(self.processor, image, text)
            values = {name: v for name, v in inputs.items() if isinstance(v, Tensor) and name != "labels"}
            return values.pop("input_ids")[0], values
        except Exception as error:  # processors of each architecture
            raise TextError(
                f"{row.where}: {type(self.processor).__name__} cannot write image {row.image} and its text: "
                f"{type(error).__name__}: {brief(error)}"
            ) from error

    def _check_room(self, ids: Tensor, seq_len: int, row: TextRow) -> None:
        places = torch.isin(ids, torch.tensor(self.placeholders)).nonzero().flatten()
        if not len(places):
            raise TextError(
                f"{row.where}: {type(self.processor).__name__} leaves no place for image {row.image} in its text (no "
                f"id of {list(self.placeholders)})"
            )
        needed = int(places[-1]) + 2
        if needed > seq_len:
            raise TextError(
                f"{row.where}: image {row.image} takes {len(places)} tokens, and ends at token {needed - 1}; a sample "
                f"is {seq_len} tokens, with text behind the image: calibration seq_len {needed} or more, or a smaller "
                "image, will do"
            )


def read_image(row: TextRow) -> Any:
    """The image of a row in RGB, turned as its file says. Raises TextError for a file that holds none."""
    from PIL import Image, ImageOps

    assert row.image is not None
    try:
        with Image.open(row.image, formats=FORMATS) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TextError(f"{row.where}: image {row.image} cannot be read as png or jpg: {brief(error)}") from error


def written(processor: Any, image: Any, text: str) -> Mapping[str, Any]:
    """An image and a text behind it as a processor writes them: as what a user says, if it has a chat template.

    A text that holds the processor's mark for an image is written as it stands.
    """
    mark = image_mark(processor)
    if mark not in text and getattr(processor, "chat_template", None):
        content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
        chat: Mapping[str, Any] = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=True, return_dict=True, return_tensors="pt"
        )
        return chat
    marked = text if mark in text else f"{mark} {text}"
    inputs: Mapping[str, Any] = processor(images=[image], text=[marked], return_tensors="pt")
    return inputs


def image_mark(processor: Any) -> str:
    """What stands for an image in the text that a processor is given."""
    return str(getattr(processor, "image_token", "<image>"))


def _without_marks(text: str, processor: Any) -> str:
    """A text without what a processor would take for the place of an image."""
    for holder in (processor, processor.tokenizer):
        for name in ("boi_token", "image_token"):
            if mark := getattr(holder, name, None):
                text = text.replace(str(mark), "")
    return text


def _cut(value: Tensor, tokens: int, seq_len: int) -> Tensor:
    """The part of an input for the first `seq_len` of the tokens, where it has an entry for each token."""
    of_tokens = value.shape == (1, tokens) and not torch.is_floating_point(value)
    return (value[:, :seq_len] if of_tokens else value).contiguous()
