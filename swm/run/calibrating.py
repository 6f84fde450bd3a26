"""The calibration text of a run: what is wrong with it, what reads its images, and its samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from swm.errors import RecipeError, at, listed
from swm.interfaces.text import Calibration, TextSource, leaves
from swm.loading.processor import image_reader
from swm.loading.source import ModelSource
from swm.plugins.registry import Registry
from swm.recipe.recipe import CalibrationRecipe, Recipe
from swm.text.calibration import draw_samples
from swm.text.images import ImageReader


def draw_calibration(
    wanted: CalibrationRecipe, text: TextSource, tokenizer: Any, seed: int, images: ImageReader | None = None
) -> Calibration:
    """The calibration text as tokens.

    Args:
        wanted: How much of it, and how it is drawn.
        text: The source, in a form that can be read.
        tokenizer: The model's tokenizer.
        seed: The seed of all draws.
        images: What makes samples of the source's images.
    """
    with at("calibration"):
        return draw_samples(
            tokenizer,
            text,
            samples=wanted.samples,
            seq_len=wanted.seq_len,
            seed=seed,
            bos=wanted.bos,
            sampling=wanted.sampling or "windows",
            images=images,
        )


def check_images(recipe: Recipe, registry: Registry) -> None:
    """Raise RecipeError where something is to read images that reads text alone; the registry knows what does not."""
    for place, text in _other_texts(recipe):
        if text.image_rows() is not None:
            with at(*place):
                raise RecipeError("images are read for calibration alone; leave image out here", ("image",))
    if recipe.calibration.text.image_rows() is None:
        return
    check_sampling(recipe.calibration)
    for i, stage in enumerate(recipe.stages):
        if stage.reads_calibration and not stage.reads_images:
            able = [one.strategy.name for one in registry.entries() if getattr(one.strategy, "reads_images", False)]
            raise RecipeError(
                f"stage {i} ({stage.name}) reads text alone; leave image out, or take stages that read images: "
                f"{listed(able)}",
                ("calibration", "text", "image"),
            )


def check_sampling(wanted: CalibrationRecipe) -> None:
    """Raise RecipeError for settings that make no sense where samples hold images."""
    if wanted.sampling == "documents":
        raise RecipeError(
            "found documents; crops of documents may cut an image, so use sampling: windows with images, or leave "
            "image out of the text",
            ("calibration", "sampling"),
        )
    if wanted.bos != "auto":
        raise RecipeError(
            f"found {wanted.bos}; a sample with an image begins as the model's processor writes it, so use bos: auto "
            "with images",
            ("calibration", "bos"),
        )


def calibration_images(
    text: TextSource, source: ModelSource, model: Any, tokenizer: Any, trust_remote_code: bool
) -> ImageReader | None:
    """As `image_reader`, with the place of the source in a recipe.

    Args:
        text, source, model, tokenizer, trust_remote_code: As there.

    Raises:
        TextError: As there.
    """
    with at("calibration", "text", "image"):
        return image_reader(text, source, model, tokenizer, trust_remote_code)


def unread_notes(text: TextSource) -> list[str]:
    """What the report says of that which the source holds and does not give."""
    return [note] if (note := text.unread()) else []


def same_text_notes(recipe: Recipe) -> list[str]:
    """What the report says where a measurement reads the text that the strategies saw."""
    asked, notes = recipe.evaluate, []
    seen = [leaf.text.text_alone() for leaf in leaves(recipe.calibration.text) if not leaf.text.separates()]

    def same(text: TextSource) -> bool:
        return any(leaf.text in seen for leaf in leaves(text))

    if asked.perplexity is not None and same(asked.perplexity.text):
        notes.append("calibration and perplexity read the same text, so the perplexity flatters the result")
    for measure in asked.measures or ():
        if any(map(same, measure.texts().values())):
            notes.append(f"calibration and measure '{measure.name}' read the same text, so it flatters the result")
    return notes


def _other_texts(recipe: Recipe) -> Iterator[tuple[tuple[str | int, ...], TextSource]]:
    """The sources of text beside that of the calibration, and where the recipe names them."""
    if recipe.evaluate.perplexity is not None:
        yield ("evaluate", "perplexity", "text"), recipe.evaluate.perplexity.text
    for i, measure in enumerate(recipe.evaluate.measures or ()):
        for name, text in measure.texts().items():
            yield ("evaluate", "measures", i, name), text
    for i, stage in enumerate(recipe.stages):
        for text in stage.texts():
            yield (*recipe.place(i), "data"), text
