"""Whether a saved folder holds everything but the text tower just as the folder of the original model does."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swm.errors import CheckpointError
from swm.loading.weights import StoredWeights, some


def check_untouched(model: Any, tower: str, parent: Path | Mapping[str, Tensor], folder: Path) -> int:
    """Compare the tensors outside of the text tower, byte for byte, in the type in which the folder holds them.

    Args:
        model: The model that was saved.
        tower: The path of its text tower.
        parent: The folder of the original model, or its tensors by the model's own names.
        folder: The saved folder.

    Returns:
        How many tensors were compared.

    Raises:
        CheckpointError: When one of them is missing or differs.
    """
    head = model.get_output_embeddings()
    heads = set() if head is None else {id(parameter) for parameter in head.parameters()}
    tensors = model.state_dict(keep_vars=True)
    names = [name for name, value in tensors.items() if not name.startswith(f"{tower}.") and id(value) not in heads]
    compared, wrong = 0, []
    with _weights_of(parent) as original, StoredWeights(str(folder), folder) as saved:
        for name in names:
            both = [_stored(model, name, tensors[name], weights) for weights in (original, saved)]
            if both[0] is None:
                continue  # a table that the class makes itself
            compared += 1
            if both[1] is None or not torch.equal(both[0].to("cpu", both[1].dtype), both[1]):
                wrong.append(name)
    if wrong:
        raise CheckpointError(f"the saved model is not the original outside of its text tower: {some(wrong)} differ")
    return compared


def _weights_of(parent: Path | Mapping[str, Tensor]) -> Any:
    return StoredWeights(str(parent), parent) if isinstance(parent, Path) else nullcontext(parent)


def _stored(model: Any, name: str, value: Any, weights: Any) -> Any:
    """The tensor that a folder holds under the model's own name, or under that which its class writes."""
    from transformers.core_model_loading import revert_weight_conversion

    for candidate in (name, *revert_weight_conversion(model, {name: value.detach()})):
        if candidate in weights:
            return weights[candidate]
    return None
