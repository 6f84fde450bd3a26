"""How important the units of each layer are on average, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from swm.width.limits import Key


def mean_scores(scores: Mapping[Key, Tensor], numbers: Sequence[int]) -> dict[str, float]:
    """The mean score of the units by part and layer, as in `mlp 7`; `numbers` are the original ones of the layers."""
    ordered = sorted(scores, key=lambda key: (key[1], key[0]))
    return {f"{part} {numbers[i]}": float(f"{scores[i, part].double().mean():.6g}") for i, part in ordered}
