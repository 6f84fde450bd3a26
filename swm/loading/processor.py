"""A model's processor: what writes images and text as the model reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swm.errors import TextError, brief, listed
from swm.interfaces.text import TextSource
from swm.loading.source import ModelSource
from swm.model.quiet import quiet_transformers
from swm.model.text_config import text_config
from swm.text.images import ImageReader

# The same names stand in `swm/checkpoint/reload.py`, which imports nothing of swm.
PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
# Of the ids of tokens in a config, the names of that which stands for a piece of an image.
PLACEHOLDERS = ("image_token_id", "image_token_index")


def takes_images(model: Any) -> bool:
    """Whether a model reads images beside text."""
    return text_config(model.config) is not model.config and eyes_of(model) is not None


def eyes_of(model: Any) -> Any:
    """What makes features of an image: the model, or the one that it adds a head to; None where neither does."""
    return next((one for one in (model, model.base_model) if hasattr(one, "get_image_features")), None)


def placeholder_of(config: Any) -> int:
    """The id that stands for a piece of an image in the text of a model that reads images."""
    values = config.to_dict()
    return int(next(values[name] for name in PLACEHOLDERS if values.get(name) is not None))


def has_processor(folder: Path) -> bool:
    """Whether a model's folder says how images are to be written."""
    return any((folder / name).is_file() for name in PROCESSORS)


def load_processor(folder: Path, trust_remote_code: bool = False) -> Any:
    """The processor of a model's folder."""
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, trust_remote_code=trust_remote_code)


def image_reader(
    text: TextSource, source: ModelSource, model: Any, tokenizer: Any, trust_remote_code: bool = False
) -> ImageReader | None:
    """What makes samples of the images of a source for a model; None for a source of text alone.

    Args:
        text: The source.
        source: The folder of the model.
        model: The model, which needs no weights.
        tokenizer: Its tokenizer.
        trust_remote_code: Whether code in that folder may run.

    Raises:
        TextError: The model cannot read images, or its processor cannot be had.
    """
    rows = text.image_rows()
    if rows is None:
        return None
    first = next((row.where for row in rows if row.image is not None), text.title())
    if not takes_images(model):
        raise TextError(
            f"{first}: the row has an image, and model '{source.name}' ({model.config.model_type}) reads text alone; "
            "leave image out, and its rows are read as text"
        )
    if not has_processor(source.folder):
        raise TextError(
            f"{first}: the row has an image, and the folder of model '{source.name}' has no processor (none of "
            f"{listed(PROCESSORS)}); take these files from the original model, or leave image out"
        )
    try:
        with quiet_transformers():
            processor = load_processor(source.folder, trust_remote_code)
    except Exception as error:  # a processor may need packages of its own
        vision = "torchvision" in str(error).lower()
        way = "pip install 'swm-pruning[images]'" if vision else "install what it names"
        raise TextError(
            f"{first}: the row has an image, and the processor of model '{source.name}' cannot be loaded: "
            f"{type(error).__name__}: {brief(error)}; {way}, or leave image out"
        ) from error
    if not hasattr(processor, "tokenizer"):
        raise TextError(
            f"{first}: the row has an image, and the folder of model '{source.name}' has a {type(processor).__name__}, "
            "which writes no images among text; take the original model's processor_config.json, or leave image out"
        )
    known = [i for i in getattr(processor, "image_token_ids", ()) if isinstance(i, int)]
    return ImageReader(processor, tokenizer, sorted({placeholder_of(model.config), *known}))
