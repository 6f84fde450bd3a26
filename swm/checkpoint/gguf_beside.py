"""`layout: gguf`: the folder with its layers in their true shapes, and in it the file that llama.cpp reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swm.checkpoint.coming import Coming
from swm.errors import ModelError
from swm.gguf.choice import choose
from swm.gguf.exporting import write_folder
from swm.gguf.stored_model import StoredModel, check_text_alone
from swm.gguf.tokenizer import tokenizer_entries
from swm.loading.source import ModelSource
from swm.model.families import ModelFamily
from swm.model.view import ModelView

FILE = "model.gguf"


def refusal(view: ModelView, coming: Coming) -> str:
    """Why no GGUF file can hold a model as it is and as it is going to be, with the ways out; empty where one can."""
    config, family = view.model_config, view.family
    shapes = {name: tuple(value.shape) for name, value in view.model.state_dict().items()}
    model = StoredModel(ModelSource(config.model_type, Path()), config, family, shapes, "F32")
    try:
        check_text_alone(model)
        choose(model, [family], own_shapes=coming.uneven or coming.blocks)
    except ModelError as error:
        return f"gguf: {error}"
    return ""


def read_tokenizer(view: ModelView, tokenizer: Any) -> list[str]:
    """Where llama.cpp reads a text otherwise than a tokenizer, in sentences.

    Raises ModelError for one that no GGUF file can hold.
    """
    return tokenizer_entries(tokenizer, view.vocabulary, view.model_config.model_type).notes


def write_beside(folder: Path, family: ModelFamily) -> None:
    """Write the file into a saved folder. Raises ModelError for a folder that no GGUF file can hold."""
    write_folder(ModelSource(folder.name, folder), folder / FILE, [family])
