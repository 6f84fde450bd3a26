"""One piece of a compression: how alike the layers of a model object are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from swm.interfaces.progress import Progress, usual_progress
from swm.interfaces.similarity import SimilarityMetric
from swm.measure.inspection import inspect_model
from swm.pieces.workpiece import Workpiece
from swm.plugins.guarding import no_exit
from swm.plugins.loading import load_plugins
from swm.plugins.registry import require_interface


@no_exit()
def layer_similarity(
    model: Any,
    text: Any,
    *,
    metric: Any = None,
    tokenizer: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
    plugin_files: Sequence[str] = (),
) -> Tensor:
    """Compare what leaves each layer of a model object with what leaves every other one. The model stays as it is.

    `swm.inspect` gives norms, block influence and patches with it.

    Args:
        model: A model object of transformers.
        text: Token ids `[samples, tokens]`, strings, a data set, batches with masks, or a mapping with the keys of a
            recipe's `calibration`.
        metric: A registered name of a similarity, a mapping with `name` and parameters, or an instance; None for the
            default.
        tokenizer: The tokenizer of the model, where the text is words.
        seed: The seed of draws of the text.
        progress: Shows what is going on; None for lines in a notebook, and nothing elsewhere.
        plugin_files: Python files with strategies.

    Returns:
        The similarities `[layers, layers]` in float64, 1 for equal outputs, in the order of the layers.

    Raises:
        SwmError: For a metric or a text that cannot be used.
    """
    plugins = load_plugins(plugin_files)
    how = require_interface(SimilarityMetric, plugins.registry.build(SimilarityMetric.kind, metric, ("metric",)))
    work = Workpiece.of(model, plugins, tokenizer, seed)
    view = work.copy()
    inspection = inspect_model(view, work.calibration(text), how, progress or usual_progress())
    return torch.tensor(inspection.similarity, dtype=torch.float64)
