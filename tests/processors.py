"""Processors for the tiny models of images and text, whose tokens are characters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Gemma3Processor, LlavaNextProcessor, PaliGemmaProcessor, PreTrainedTokenizerFast
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from zoo_multimodal import BEGIN, END, IMAGE, save_llava_processor

from swm.testing.tiny import tiny_tokenizer

TEMPLATE = (
    "{% for message in messages %}:{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}\n{% endfor %}"
)


def save_processor(name: str, folder: Path) -> None:
    """Save the tokenizer and the processor of a model of the zoo.

    That of `gemma3` gives token types, that of `paligemma` labels too. That of `llava_next` has a chat template and
    makes more of larger images.
    """
    {
        "llava": save_llava_processor,
        "gemma3": _save_gemma,
        "llava_next": _save_llava_next,
        "paligemma": _save_paligemma,
    }[name](folder)


def _tokenizer(tokens: dict[int, str], **names: str) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with special tokens at these ids, of which some have names."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer().backend_tokenizer, unk_token="<unk>", pad_token="<pad>"
    )
    every = [tokens.get(i, f"<filler {i}>") for i in range(len(tokenizer), max(tokens) + 1)]
    tokenizer.add_tokens(every, special_tokens=True)
    assert all(tokenizer.convert_tokens_to_ids(token) == i for i, token in tokens.items())
    tokenizer._set_model_specific_special_tokens(names)
    return tokenizer


def _save_gemma(folder: Path) -> None:
    tokens = {IMAGE: "<image>", BEGIN: "<begin>", END: "<end>"}
    tokenizer = _tokenizer(tokens, image_token="<image>", boi_token="<begin>", eoi_token="<end>")
    images: Any = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    Gemma3Processor(images, tokenizer, image_seq_length=4).save_pretrained(folder)


def _save_llava_next(folder: Path) -> None:
    size, grids = {"height": 16, "width": 16}, [[16, 16], [16, 32]]
    images: Any = LlavaNextImageProcessorPil(size={"shortest_edge": 16}, crop_size=size, image_grid_pinpoints=grids)
    processor = LlavaNextProcessor(
        images,
        _tokenizer({IMAGE: "<image>"}),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(folder)


def _save_paligemma(folder: Path) -> None:
    tokenizer = _tokenizer({IMAGE: "<image>"}, image_token="<image>")
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    images: Any = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    images.image_seq_length = 4
    PaliGemmaProcessor(images, tokenizer).save_pretrained(folder)
