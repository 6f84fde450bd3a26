"""RepairedTrials: how good a model would be after some steps and a stage that repairs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from swm.depth.objective import Objective
from swm.errors import RecipeError
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import Stage, StageContext, Step
from swm.model.samples import Samples
from swm.model.shared_copy import shared_copy
from swm.model.state import State
from swm.model.view import ModelView


@dataclass(frozen=True)
class RepairedTrials:
    """Tries steps on a model that shares all numbers with the one at hand, of which nothing changes."""

    context: StageContext
    repair: Stage
    similarity: SimilarityMetric
    samples: Samples

    def loss(self, steps: Sequence[tuple[Step, State]]) -> float:
        """The mean next-token loss in nats of the repaired model on the samples.

        Raises RecipeError for a stage that trains in place, which no plan holds.
        """
        view = _twin(self.context.view)
        for step, fitted in steps:
            step.apply(view, fitted)
        seen = replace(self.context, view=view, observed=None).first(self.repair.seen_samples())
        plan = self.repair.plan(seen)
        for i, step in enumerate(plan.steps):
            if step.needs_data:
                raise RecipeError(f"'{self.repair.name}' trains in place; repairs here are fits that a plan holds")
            step.apply(view, plan.tensors.get(i, {}))
        recording = view.record(self.samples, only_first=True)
        hidden = recording.states[0]
        with torch.no_grad():
            for position in range(len(view.layers)):
                hidden = view.run_layer(recording, position, hidden)
            return Objective(view, self.similarity).next_token_loss(hidden, recording.samples)


def _twin(view: ModelView) -> ModelView:
    """The model with modules of its own; surgery gives them other parameters, and writes into none."""
    twin = ModelView(shared_copy(view.model), view.family)
    twin.memory, twin.tokens = view.memory, view.tokens
    twin.numbers, twin.ends = list(view.numbers), list(view.ends)
    twin.replaced = [dict(modules) for modules in view.replaced]
    return twin
