"""The weighted mean of the experts that a router takes for alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from swm.interfaces.expert_merger import ExpertChoice, ExpertMerger


@final
@dataclass(frozen=True)
class AverageExperts(ExpertMerger):
    """Each expert that goes is averaged into the one that stays whose router scores are most like its own.

    `agreement_ij` is the cosine, over tokens, of the router's scores of experts i and j. The experts of a group are
    weighted by what they add to all tokens (`output`: router weight times norm of the output, summed), by the number of
    their tokens (`frequency`), or not (`equal`). Rows of the router stay those of the expert that stays.

    Neurons are averaged as they stand, or (`align: weights`) with those of the expert that stays whose weights are most
    like theirs: weight matching, Ainsworth et al., arXiv 2209.04836.

    Source: Li et al., M-SMoE, arXiv 2310.01334, section 3.2, whose weights are `frequency`.
    """

    name: ClassVar[str] = "average"
    paper: ClassVar[str] = "https://arxiv.org/abs/2310.01334"

    weights: Literal["output", "frequency", "equal"] = "output"
    align: Literal["none", "weights"] = "none"

    def aligns(self) -> bool:
        return self.align == "weights"

    def shares(self, choice: ExpertChoice) -> Tensor:
        routing, kept = choice.routing, list(choice.kept)
        sizes = {"output": routing.output, "frequency": routing.routed, "equal": torch.ones_like(routing.routed)}
        shares = torch.zeros(len(kept), choice.count, dtype=torch.float64)
        for expert in range(choice.count):
            group = kept.index(expert) if expert in kept else int(routing.required_agreement[expert, kept].argmax())
            shares[group, expert] = sizes[self.weights][expert]
        for row, expert in enumerate(kept):
            if shares[row].sum() == 0:
                # No token was sent to any expert of the group.
                shares[row, expert] = 1
        return shares / shares.sum(dim=1, keepdim=True)
