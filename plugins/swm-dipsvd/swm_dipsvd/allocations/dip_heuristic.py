"""DipSVD's heuristic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from swm import layer_gradients
from swm_dipsvd.allocation import Allocation, AllocationContext, Shares, balanced

ROUNDS, ENERGY, NOTHING = 25, 0.95, 1e-8


@final
@dataclass(frozen=True)
class DipHeuristic(Allocation):
    """DipSVD's closed form of two numbers a layer, from gradients and from the rank of its output.

    `f_l = Σ_batches Σ_p ‖∂L/∂p‖ / (‖p‖ + 1e-8)` over the projections' weights and biases, each quarter of the layers
    brought to a sum of one; `s = 1/f`. The quarters begin at `⌊L/4⌋`, `⌊2L/4⌋` and `⌊3L/4⌋`. `r_l` is the mean over
    batches of the number of singular values of the layer's output `[tokens, hidden]` that make up 95 % of their sum,
    that of the last layer behind the final norm; `u = (mean r - r) / std r`. Both are brought to (0, 1],
    `w = s^beta u^(1-beta)` to `kept ± delta`, and the whole into `[low, high]` with the right mean. It keeps more where
    the gradient is small and the rank is low. Source: arXiv 2506.20353 and its released notebook (beta 0.25,
    delta 0.2).
    """

    name: ClassVar[str] = "dip-heuristic"
    paper: ClassVar[str] = "https://arxiv.org/abs/2506.20353"

    beta: Annotated[float, Field(ge=0, le=1)] = 0.25
    delta: Annotated[float, Field(ge=0, lt=1)] = 0.2
    low: Annotated[float, Field(gt=0, lt=1)] = 0.3
    high: Annotated[float, Field(gt=0, le=1)] = 0.98
    batch: Annotated[int, Field(ge=1)] = 8

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low: {self.low} is above high: {self.high}")

    def allocate(self, context: AllocationContext) -> Shares:
        batches = torch.split(context.ids, self.batch)
        view, layers = context.view, context.layers
        with context.progress.task(self.name, len(batches) * layers) as task:
            gradients = torch.zeros(layers, dtype=torch.float64)
            ranks = torch.zeros(layers, dtype=torch.float64)
            for ids in batches:
                for position, found, _ in layer_gradients(view, ids, set(range(layers)), False, biases=True):
                    state = view.state(position)
                    gradients[position] += sum(_relative(value, state[key]) for key, value in found.items())
                    task.advance()
                *states, last = view.record(ids).states[1:]
                # The last of transformers' `hidden_states`, which the released code reads, is behind the final norm.
                outputs = [*states, view.tail(last)]
                ranks += torch.tensor([effective_rank(output) for output in outputs]) / len(batches)
        sensitivity, spread = fisher_sensitivity(gradients), standing(ranks)
        facts = {"sensitivity": _rounded(sensitivity), "effective_rank": _rounded(ranks)}
        return Shares(self.shares(sensitivity.tolist(), spread.tolist(), context.kept), facts)

    def shares(self, sensitivity: Sequence[float], spread: Sequence[float], kept: float) -> list[float]:
        """The kept ratios from `s` and `u`, one each a layer."""
        s, u = (_unit(torch.tensor(values, dtype=torch.float64)) for values in (sensitivity, spread))
        w = s**self.beta * u ** (1 - self.beta)
        reach = w.max() - w.min()
        bent = 2 * (w - w.min()) / reach - 1 if reach > 0 else torch.zeros_like(w)
        return self._settled(kept + self.delta * bent, kept)

    def _settled(self, ratios: Tensor, kept: float) -> list[float]:
        goal = kept * len(ratios)
        # With delta beyond what is kept, the scaling would turn negative ratios about.
        ratios = ratios.clamp_min(NOTHING)
        for _ in range(ROUNDS):
            ratios = (ratios * goal / ratios.sum()).clamp(self.low, self.high)
            if abs(float(ratios.sum()) - goal) < 1e-5:
                break
        return balanced((ratios * goal / ratios.sum()).tolist(), kept)


def fisher_sensitivity(gradients: Tensor) -> Tensor:
    """`s` `[layers]` from `f` `[layers]`: one over f, brought to a sum of one in each quarter of the layers."""
    quarters = torch.tensor_split(gradients, [part * len(gradients) // 4 for part in (1, 2, 3)])
    return 1 / torch.cat([quarter / (quarter.sum() + NOTHING) for quarter in quarters]).clamp_min(NOTHING)


def effective_rank(output: Tensor) -> float:
    """The least number of singular values of `[.., hidden]`, largest first, that make up 95 % of their sum."""
    values = torch.linalg.svdvals(output.flatten(0, -2).double())
    share = values.cumsum(0) / values.sum()
    return float((share < ENERGY).sum() + 1)


def standing(ranks: Tensor) -> Tensor:
    """`u` `[layers]`: by how many deviations (divisor: the number of layers) each rank is below the mean."""
    deviation = ranks.std(correction=0)
    return (ranks.mean() - ranks) / deviation if deviation > 0 else torch.zeros_like(ranks)


def _unit(values: Tensor) -> Tensor:
    reach = values.max() - values.min()
    return (values - values.min() + 1e-5) / reach if reach > 0 else torch.ones_like(values)


def _relative(gradient: Tensor, parameter: Tensor) -> float:
    length = parameter.double().norm()
    # Next to 1e-8, biases that a config switch only holds room for would outweigh all else.
    return float(gradient.double().norm() / (length + NOTHING)) if length > 0 else 0.0


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]
