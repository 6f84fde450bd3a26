"""The weights between the embedding and the vocabulary projection."""

from __future__ import annotations

from typing import Any

from torch import nn

from swm.model.view import ModelView


def weights_of(view: ModelView) -> dict[str, nn.Parameter]:
    """Those of the layers, and of what follows the last of them, by their names in the model.

    A matrix that the vocabulary reads or writes is none of them, wherever else it stands.
    """
    model: Any = view.model
    vocabulary = {
        id(parameter)
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
        if module is not None
        for parameter in module.parameters()
    }
    inside = [*view.layers, *view.tail_modules()]
    chosen = {id(parameter) for module in inside for parameter in module.parameters()} - vocabulary
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in chosen}
