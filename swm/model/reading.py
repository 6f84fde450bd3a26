"""Running a model on samples: its text body on text, the whole model where there is an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from swm.model.families import ModelFamily
from swm.model.samples import Samples


def read_samples(model: nn.Module, family: ModelFamily, text: Tensor | Samples) -> None:
    """Run a model over a text batch by batch, for hooks on its layers to see; `text` is `[samples, seq]`."""
    samples = Samples.of(text)
    for rows in samples.batches(device=next(model.parameters()).device):
        read_batch(model, family, samples[rows])


def read_batch(model: nn.Module, family: ModelFamily, samples: Samples, mask: Tensor | None = None) -> None:
    """As `read_samples`, on one batch. The vocabulary projection is not run on all of it.

    Args:
        model: The causal language model, or the model of images and text.
        family: The family row of the model.
        samples: The batch: samples of text, or one sample with an image.
        mask: `[samples, seq]`, 0 for padding; None where there is none.
    """
    device = next(model.parameters()).device
    ids, mask = samples.ids.to(device), None if mask is None else mask.to(device)
    if not samples.images:
        family.body_of(model)(input_ids=ids, attention_mask=mask, use_cache=False)
        return
    [image] = samples.images.values()
    with attributes_kept(model, family):
        model(input_ids=ids, **moved(image, model), logits_to_keep=1, use_cache=False)


def moved(inputs: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """The tensors where the model is, numbers in its type."""
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items()
    }


@contextmanager
def attributes_kept(model: nn.Module, family: ModelFamily) -> Iterator[None]:
    """What the modules around the text body note of an image is forgotten: positions of a later text may follow it."""
    path = family.tower.split(".")[:-1]
    around = [model, *(model.get_submodule(".".join(path[: i + 1])) for i in range(len(path)))]
    before = [dict(vars(module)) for module in around]
    try:
        yield
    finally:
        for module, attributes in zip(around, before, strict=True):
            vars(module).update(attributes)
