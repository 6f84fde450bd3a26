"""An image among text, as the inputs of a model of images and text: what the saved and the given model are compared on.

A processor makes it where there is one. Otherwise its numbers are random: the arguments that the model's own forward
takes say in which form it wants an image.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swm.errors import brief
from swm.loading.processor import eyes_of, has_processor, load_processor, placeholder_of, takes_images
from swm.model.quiet import quiet_transformers
from swm.model.reading import moved
from swm.model.text_config import text_config
from swm.text.images import written

SIDE = 56
# Patches to a side of an image that a model takes in any size.
PATCHES = 4
# Text tokens before and behind the image.
AROUND = 4
SEED = 0


def try_image_prompt(model: Any, parent: Path, trust_remote_code: bool = False) -> tuple[dict[str, Tensor], list[str]]:
    """An image prompt for a model, made by the processor of the folder that it comes from where there is one.

    Args:
        model: The model.
        parent: The folder of the original model.
        trust_remote_code: Whether code in that folder may run.

    Returns:
        The arguments of the model's forward, and in sentences what could not be; no arguments for a model of text
        alone, or one whose images nobody knows how to make.
    """
    if not takes_images(model):
        return {}, []
    notes = []
    with quiet_transformers():
        if has_processor(parent):
            try:
                return answered(model, image_prompt(model, load_processor(parent, trust_remote_code))), []
            except Exception as error:  # processors of each architecture, some of them in need of other packages
                why = f"{type(error).__name__}: {brief(error)}"
                notes.append(f"the saved model was compared on random pixels, as its processor cannot be used: {why}")
        try:
            return answered(model, image_prompt(model)), notes
        except Exception as error:  # nobody says in which form a class wants its images
            why = f"{type(error).__name__}: {brief(error)}"
            return {}, [f"the saved model was compared on text alone, as no image could be made for it: {why}"]


@torch.no_grad()
def answered(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs. Raises whatever the model raises when it cannot read them."""
    model(**inputs, use_cache=False)
    return inputs


@torch.no_grad()
def image_prompt(model: Any, processor: Any = None) -> dict[str, Tensor]:
    """The arguments of the model's forward for one image among text, the same at every call."""
    inputs = random_image(model) if processor is None else processed_image(processor)
    return moved({name: value for name, value in inputs.items() if isinstance(value, Tensor)}, model)


def processed_image(processor: Any) -> Mapping[str, Any]:
    """An image of random colours with a question, as the processor writes them."""
    import numpy as np
    from PIL import Image

    colours = np.random.default_rng(SEED).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return written(processor, Image.fromarray(colours), "What is this?")


def random_image(model: Any) -> dict[str, Tensor]:
    """Random pixels in the form that the model takes, and random text tokens around their places."""
    generator = torch.Generator().manual_seed(SEED)
    names = inspect.signature(model.forward).parameters
    pixels = moved(random_pixels(model.config, names, generator), model)
    try:
        features = _features(eyes_of(model).get_image_features(**pixels))
    except Exception:  # some vision towers are told the size of the image, and others cannot be
        if pixels.pop("image_sizes", None) is None:
            raise
        features = _features(eyes_of(model).get_image_features(**pixels))
    pieces = sum(piece.numel() for piece in features) // text_config(model.config).hidden_size
    values = model.config.to_dict()
    special = {value for key, value in values.items() if "token" in key and isinstance(value, int)}
    plain = [token for token in range(3, text_config(model.config).vocab_size) if token not in special]
    chosen = torch.tensor(plain)[torch.randint(len(plain), (2 * AROUND,), generator=generator)]
    image = placeholder_of(model.config)
    ids = torch.cat([chosen[:AROUND], torch.full((pieces,), image), chosen[AROUND:]])[None]
    kinds = {name: (ids == image).long() for name in ("token_type_ids", "mm_token_type_ids") if name in names}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **kinds, **pixels}


def random_pixels(config: Any, names: Mapping[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
    """Random pixels as the arguments of a forward.

    Args:
        config: The config of the model.
        names: The arguments that the forward takes.
        generator: Where the numbers come from.

    Returns:
        The pixels, and what says how they lie in the image.
    """
    vision = config.vision_config
    channels = getattr(vision, "num_channels", 0) or getattr(vision, "in_channels", 3)
    patch = _sides(getattr(vision, "patch_size", 1))
    if "image_grid_thw" in names:
        side = 2 * vision.spatial_merge_size
        values = channels * vision.temporal_patch_size * math.prod(patch)
        grid = torch.tensor([[1, side, side]])
        return {"pixel_values": torch.randn(side * side, values, generator=generator), "image_grid_thw": grid}
    if "image_position_ids" in names:
        side = 2 * vision.pooling_kernel_size
        places = torch.tensor([[x, y] for y in range(side) for x in range(side)])[None]
        values = torch.rand(1, side * side, channels * math.prod(patch), generator=generator)
        return {"pixel_values": values, "image_position_ids": places}
    if "spatial_shapes" in names:
        values = torch.randn(1, PATCHES**2, channels * math.prod(patch), generator=generator)
        mask = torch.ones(1, PATCHES**2, dtype=torch.long)
        shapes = torch.tensor([[PATCHES, PATCHES]])
        return {"pixel_values": values, "pixel_attention_mask": mask, "spatial_shapes": shapes}
    height, width = _sides(vision.image_size)
    grids = getattr(config, "image_grid_pinpoints", None)
    if grids:
        tiles = 1 + max((tall // height) * (wide // width) for tall, wide in grids)
        leading: tuple[int, ...] = (1, tiles)
    else:
        leading = (1, 1) if "pixel_attention_mask" in names else (1,)
    sizes = {"image_sizes": torch.tensor([[height, width]])} if "image_sizes" in names else {}
    return {"pixel_values": torch.randn(*leading, channels, height, width, generator=generator), **sizes}


def _sides(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _features(output: Any) -> list[Tensor]:
    """The tensors of what a model makes of an image."""
    made = getattr(output, "pooler_output", output)
    return [made] if isinstance(made, Tensor) else list(made)
