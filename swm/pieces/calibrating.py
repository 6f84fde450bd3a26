"""The text of a piece: whatever a recipe's calibration may be, as token ids."""

from __future__ import annotations

from typing import Any

from swm.errors import RecipeError, SwmError, at
from swm.interfaces.text import Calibration, needs_model
from swm.model.lengths import check_length
from swm.plugins.construct import construct
from swm.plugins.registry import Registry
from swm.recipe.recipe import CalibrationRecipe
from swm.run.taking import taken_calibration
from swm.text.calibration import draw_samples

TEXT = "text"


def piece_text(text: Any, tokenizer: Any, config: Any, registry: Registry, seed: int) -> Calibration:
    """The text as token ids.

    Args:
        text: Token ids, strings, a data set, batches, a name or a path, or a mapping with the keys of a recipe's
            `calibration`.
        tokenizer: Makes ids of words; None where there are none.
        config: The config of the model.
        registry: The text sources that are known.
        seed: The seed of all draws.

    Raises:
        SwmError: For what is no text, and for ids that the model has not.
    """
    try:
        values = {TEXT: registry.default("text"), **taken_calibration(text, registry)}
        wanted = construct(CalibrationRecipe, values, registry.build, ("calibration",))
    except SwmError as error:
        # The argument is the text itself, or a mapping that has it below this key.
        error.path = error.path[1:] if error.path[:1] == ("calibration",) else error.path
        raise
    source = wanted.text
    if source.image_rows() is not None or needs_model(source):
        raise RecipeError("images, and text that the model writes, are read in runs alone; take swm.compress", (TEXT,))
    with at(TEXT):
        source.check()
        source.check_model(config)
    check_length(config, wanted.seq_len, (TEXT, "seq_len"))
    with at(TEXT):
        return draw_samples(
            tokenizer,
            source,
            samples=wanted.samples,
            seq_len=wanted.seq_len,
            seed=seed,
            bos=wanted.bos,
            sampling=wanted.sampling or "windows",
        )
