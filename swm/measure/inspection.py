"""Inspection: how alike a model's layers are, how much each changes, and how large hidden states become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from swm.errors import ModelError, RecipeError, listed
from swm.interfaces.progress import Progress, Silent
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.text import Calibration
from swm.measure.expert_load import ExpertLoad, expert_loads, watched_experts
from swm.measure.layer_pairs import LayerPairs
from swm.measure.patches import find_patches, otsu_threshold
from swm.model.ranges import format_ranges
from swm.model.shape import active_parameters
from swm.model.view import ModelView
from swm.model.windows import Window
from swm.shown.tables import Part, Table, html

# The hidden states of all layers are held for this many tokens at a time.
TOKENS_PER_BATCH = 1024
COLUMNS = ("layer", "like the next", "block influence", "norm of tokens", "largest token", "its share")


@dataclass(frozen=True)
class BoundaryNorms:
    """Norms of the hidden states of single tokens at one boundary: what enters a layer, or leaves the last one.

    `mean`, `max`, `mean_first` (the first token of each sample) and `mean_rest` (all others) are over tokens of all
    samples. `largest_share` is the largest token's part in the sum of a sample's squared norms, averaged over samples:
    the weight with which that one token decides a cosine of flattened samples. `first_is_largest` is the share of the
    samples in which that token is the first.
    """

    mean: float
    max: float
    mean_first: float
    mean_rest: float
    largest_share: float
    first_is_largest: float


@dataclass(frozen=True)
class Inspection:
    """What `inspect_model` found.

    `layers` are the numbers of the layers in the original model, bottom first; everything else is in this order, and
    `patches` are positions in it. `similarity[i][j]` compares the outputs of two layers, `norms[i]` is about what
    enters layer i, and the last of `norms` about what leaves the last layer. `experts` are about the layers that have
    some.
    """

    model: str
    layers: tuple[int, ...]
    metric: Mapping[str, Any]
    calibration: Mapping[str, Any]
    similarity: tuple[tuple[float, ...], ...]
    patch_threshold: float
    patches: tuple[Window, ...]
    influence: tuple[float, ...]
    norms: tuple[BoundaryNorms, ...]
    experts: tuple[ExpertLoad, ...] = ()
    parameters: int = 0
    active_parameters: int | None = None
    notes: tuple[str, ...] = ()
    """What is said of the model's family row."""

    def patch_layers(self) -> list[list[int]]:
        """The original numbers of the layers of each patch."""
        return [list(self.layers[patch.first : patch.last + 1]) for patch in self.patches]

    def parts(self) -> list[Part]:
        """A row a layer: how alike it is to the next one, what it changes, and how large its outputs are."""
        rows = []
        for i, layer in enumerate(self.layers):
            norms = self.norms[i + 1]
            following = f"{self.similarity[i][i + 1]:.4f}" if i + 1 < len(self.layers) else ""
            sizes = [f"{norms.mean_rest:,.1f}", f"{norms.max:,.1f}", f"{norms.largest_share:.0%}"]
            rows.append([str(layer), following, f"{self.influence[i]:.4f}", *sizes])
        patches = " ".join(format_ranges(layers) for layers in self.patch_layers())
        sentence = f"patches of layers alike by {self.patch_threshold:.4f}: {patches or 'none'}"
        return [Table(COLUMNS, rows), sentence]

    def __repr__(self) -> str:
        return f"Inspection({self.model}: {len(self.layers)} layers, {len(self.patches)} patches)"

    def _repr_html_(self) -> str:
        return html([*self.parts(), *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "model": self.model,
            "calibration": dict(self.calibration),
            "layers": list(self.layers),
            "similarity": {"metric": dict(self.metric), "values": [list(row) for row in self.similarity]},
            "patches": {"threshold": self.patch_threshold, "layers": self.patch_layers()},
            "block_influence": list(self.influence),
            "norms": [asdict(norms) for norms in self.norms],
            **self._of_experts(),
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    def _of_experts(self) -> dict[str, Any]:
        """The experts, and the parameters that a token passes; empty for a model without."""
        if self.active_parameters is None:
            return {}
        sizes = {"parameters": self.parameters, "active_parameters": self.active_parameters}
        return {**sizes, "experts": [asdict(load) for load in self.experts]}


def check_metric(metric: SimilarityMetric, samples: int, seq_len: int, others: Sequence[str] = ()) -> None:
    """Check that a metric can compare the outputs of layers on that many samples and tokens.

    Args:
        metric: The similarity metric.
        samples: The number of samples.
        seq_len: The number of tokens of each.
        others: The names of metrics that can, for the message.

    Raises:
        RecipeError: At `similarity`, where the metric cannot.
    """
    if metric.space == "logits":
        instead = f": {listed(others)}" if others else ""
        raise RecipeError(
            f"similarity '{metric.name}' compares next-token distributions, and layers have none; "
            f"use one that compares hidden states{instead}",
            ("similarity",),
        )
    try:
        metric.check(samples, seq_len)
    except ValueError as error:
        raise RecipeError(str(error), ("similarity",)) from None


@torch.no_grad()
def inspect_model(
    view: ModelView,
    calibration: Calibration,
    similarity: SimilarityMetric,
    progress: Progress | None = None,
    *,
    name: str = "",
    patch_threshold: float | None = None,
) -> Inspection:
    """Run the model once over the calibration text and compare the outputs of all pairs of layers.

    Args:
        view: The model.
        calibration: The token ids `[samples, seq]`.
        similarity: The metric that compares hidden states.
        progress: Shows how many batches are done.
        name: What figures call the model.
        patch_threshold: How alike the layers of a patch are; None for `otsu_threshold`.

    Returns:
        Similarities, influence and norms of all layers, and the patches among them.

    Raises:
        RecipeError: For a metric that cannot compare layers.
        ModelError: Where numbers are not finite.
    """
    samples, seq_len = calibration.ids.shape
    check_metric(similarity, samples, seq_len)
    pairs, influence, norms = LayerPairs(similarity, samples, view.memory), list[Tensor](), list[Tensor]()
    batches = calibration.samples.batches(max(1, TOKENS_PER_BATCH // seq_len))
    with watched_experts(view) as watchers, (progress or Silent()).task("inspect layers", len(batches)) as task:
        for rows in batches:
            states = view.record(calibration.samples[rows]).states
            norms.append(_norms(states, view.numbers))
            influence.append(_influence(states))
            pairs.add(states[1:])
            task.advance()
    table = pairs.table()
    _check_table(table, similarity, view.numbers)
    threshold = otsu_threshold(table) if patch_threshold is None else patch_threshold
    return Inspection(
        model=name or view.config.model_type,
        layers=tuple(view.numbers),
        metric=similarity.spec(),
        calibration=calibration.record(),
        similarity=tuple(tuple(row) for row in table.tolist()),
        patch_threshold=threshold,
        patches=tuple(find_patches(table, threshold)),
        influence=tuple(torch.cat(influence, dim=1).mean(dim=1).tolist()),
        norms=tuple(_summary(boundary) for boundary in torch.cat(norms, dim=1)),
        experts=expert_loads(view, watchers, calibration.ids.numel()),
        parameters=view.parameters(),
        active_parameters=active_parameters(view),
    )


def _influence(states: Sequence[Tensor]) -> Tensor:
    """One minus the cosine of a token before and after a layer, the mean over tokens `[layers, samples]`.

    Source: Men et al., ShortGPT, arXiv 2403.03853, section 3.2.
    """
    cosines = [F.cosine_similarity(a.double(), b.double(), dim=-1).mean(dim=1).cpu() for a, b in pairwise(states)]
    return 1 - torch.stack(cosines)


def _norms(states: Sequence[Tensor], numbers: Sequence[int]) -> Tensor:
    """Of every sample at every boundary what `BoundaryNorms` says of all, `[layers + 1, samples, 6]` in float64."""
    norms = torch.stack([torch.linalg.vector_norm(state, dim=-1, dtype=torch.float64).cpu() for state in states])
    if not torch.isfinite(norms).all():
        first = int(torch.isfinite(norms).flatten(1).all(dim=1).long().argmin())
        where = "what enters the first layer" if first == 0 else f"the output of layer {numbers[first - 1]}"
        raise ModelError(f"{where} holds values that are not a number or infinite; another dtype may help")
    squares = norms.square()
    largest = squares.max(dim=-1)
    share = largest.values / squares.sum(dim=-1).clamp_min(torch.finfo(squares.dtype).tiny)
    rest = norms[..., 1:] if norms.shape[-1] > 1 else norms
    first_is_largest = (largest.indices == 0).double()
    columns = [norms.mean(dim=-1), norms.amax(dim=-1), norms[..., 0], rest.mean(dim=-1), share, first_is_largest]
    return torch.stack(columns, dim=-1)


def _summary(samples: Tensor) -> BoundaryNorms:
    """The numbers `[samples, 6]` of one boundary over all samples."""
    mean, _, mean_first, mean_rest, largest_share, first_is_largest = samples.mean(dim=0).tolist()
    return BoundaryNorms(mean, float(samples[:, 1].max()), mean_first, mean_rest, largest_share, first_is_largest)


def _check_table(table: Tensor, metric: SimilarityMetric, numbers: Sequence[int]) -> None:
    """Raise ModelError where two layers could not be compared."""
    for i, j in (~torch.isfinite(table)).nonzero().tolist():
        raise ModelError(f"similarity '{metric.name}' of layers {numbers[i]} and {numbers[j]} is not a number")
