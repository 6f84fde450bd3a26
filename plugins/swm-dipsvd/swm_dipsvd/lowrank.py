"""The `lowrank` stage: projections become two factors each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, final

from pydantic import Field
from torch import Tensor

import swm
from swm import FamilyError, ModelFamily, ModelShape, RecipeError, Setting, at, code_of, own_code, unknown
from swm_dipsvd.allocation import Allocation, AllocationContext, checked
from swm_dipsvd.allocations.uniform import Uniform
from swm_dipsvd.factor import FactorStep
from swm_dipsvd.factoriser import Factoriser
from swm_dipsvd.pair import REBUILD
from swm_dipsvd.ranks import Key, Ranks, Size, check_goal, kept_for, ranks_of, sizes, smallest_step
from swm_dipsvd.whitening import Whitening


@final
@dataclass(frozen=True)
class LowRankStage(swm.Stage):
    """Replaces projections by two factors: `whitening` says by which norm, `allocation` how much each layer keeps.

    `target` is what goes of all parameters, `block_ratio` of the parameters of these projections, as the papers count.
    `projections` are canonical names (`attention.q`, `mlp.down`, ...); all of the family by default. A matrix `[m, n]`
    of a layer that keeps the ratio ρ gets the rank `int(m n ρ / (m + n))`; where that would save nothing it stays.
    """

    name: ClassVar[str] = "lowrank"
    reads_reference: ClassVar[bool] = False
    removes: ClassVar[str] = "ranks"
    replaces: ClassVar[bool] = True
    rebuilds: ClassVar[Sequence[swm.Rebuild]] = (REBUILD,)

    whitening: Whitening
    allocation: Allocation = field(default_factory=Uniform)
    target: swm.Target | None = None
    block_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    projections: Annotated[Sequence[str], Field(min_length=1)] | None = None

    def __post_init__(self) -> None:
        if self.target is not None and self.target.layers is not None:
            raise ValueError("target of a lowrank stage is {params: n} or {ratio: r}, found layers")
        if self.target is not None and self.block_ratio is not None:
            raise ValueError("block_ratio says how much of the projections goes; leave out it or the target")
        if self.projections is not None and len(set(self.projections)) < len(self.projections):
            raise ValueError(f"projections: {list(self.projections)} names one twice")

    def wants_target(self) -> bool:
        return self.target is None and self.block_ratio is None

    def worth_while(self, context: swm.StageContext) -> bool:
        matrices = sizes(context.view, self.roles(context.view.family))
        if self.target is None:
            return True
        goal = self.target.goal(context.original, context.view)
        return goal.amount > 0 if goal.least else goal.parameters() > smallest_step(matrices) / 2

    def roles(self, family: ModelFamily) -> list[str]:
        """The projections to factorise. Raises RecipeError for one that the family has not."""
        if not family.projections:
            raise FamilyError(f"family row '{family.name}' names no projections, so none can be factorised")
        for i, role in enumerate(self.projections or ()):
            if role not in family.projections:
                raise RecipeError(unknown("projection", role, family.projections), ("projections", i))
        return [role for role in family.projections if self.projections is None or role in self.projections]

    def replaced_projections(self, family: ModelFamily) -> Sequence[str]:
        return self.roles(family)

    def check(self, setting: Setting) -> None:
        roles = self.roles(setting.family)
        if setting.model is None:
            return
        matrices = sizes(setting.model, roles)
        if not setting.first:
            # Earlier stages leave less, so what is too much for the whole model is too much then.
            if self.target is not None:
                with at("target"):
                    goal = self.target.goal(setting.shape, setting.model)
                    wanted = goal.parameters()
                    # What a limit of the result leaves to do depends on the earlier stages.
                    check_goal(matrices, 0.0 if goal.least else wanted)
            return
        kept = self.kept(matrices, setting.shape, setting.model)
        with at("allocation"):
            known = self.allocation.known(setting.shape.layers, kept)
        with at("target" if self.block_ratio is None else "block_ratio"):
            ranks_of(matrices, known or [kept] * setting.shape.layers, setting.model.numbers)

    def kept(self, matrices: Mapping[Key, Size], original: ModelShape, view: swm.ModelView) -> float:
        """The mean ratio that layers keep of these matrices of a model. Raises BudgetError where that cannot be met."""
        if self.block_ratio is not None:
            return 1 - self.block_ratio
        assert self.target is not None
        with at("target"):
            goal = self.target.goal(original, view)
            wanted = goal.parameters()
            goal.check_asks()
            return kept_for(matrices, wanted, goal.least)

    def plan(self, context: swm.StageContext) -> swm.StagePlan:
        view = context.view
        matrices = sizes(view, self.roles(view.family))
        kept = self.kept(matrices, context.original, view)
        if kept >= 1:
            return swm.StagePlan([], {"skipped": "the target is less than one rank"})
        factoriser = Factoriser(context, self.whitening, matrices)
        asked = AllocationContext(
            view,
            context.calibration.ids,
            kept,
            context.seed,
            context.progress,
            factoriser.loss,
            factoriser.prepare,
            partial(self._about, context, list(matrices)),
        )
        with at("allocation"):
            shares = self.allocation.allocate(asked)
            ratios = checked(shares, len(view.layers), kept, self.allocation.name)
            ranks = ranks_of(matrices, ratios, view.numbers)
        steps, tensors = _steps(factoriser, ranks)
        facts = {**_facts(context, matrices, ranks, view.numbers), "kept_ratios": [round(r, 6) for r in ratios]}
        if self.target is not None and self.target.limited is not None:
            facts["planned_saving"] = facts["planned_params"] * (
                self.target.goal(context.original, view).unit.per_parameter or 0.0
            )
        if shares.facts:
            facts["allocation"] = dict(shares.facts)
        facts["repairs"] = dict(sorted(factoriser.repairs.items()))
        return swm.StagePlan(steps, facts, tensors)

    def _about(self, context: swm.StageContext, keys: Sequence[Key]) -> dict[str, Any]:
        return {
            "model": context.view.fingerprint(),
            "calibration": context.calibration.fingerprint,
            "code": [own_code(), code_of([self])],
            "whitening": self.whitening.spec(),
            "matrices": [list(key) for key in keys],
        }


def _steps(factoriser: Factoriser, ranks: Ranks) -> tuple[list[FactorStep], dict[int, dict[str, Tensor]]]:
    """The steps in the order of layers and roles, and their factors."""
    numbers = factoriser.context.view.numbers
    found: dict[Key, dict[str, Tensor]] = {}
    for position, factors in factoriser.layers():
        for role in factoriser.roles:
            rank = ranks[position, role]
            if rank is not None:
                found[position, role] = factors[role].truncated(rank)
    done = [(key, rank) for key, rank in ranks.items() if rank is not None]
    steps = [FactorStep(numbers[position], role, rank) for (position, role), rank in done]
    return steps, {i: found[key] for i, (key, _) in enumerate(done)}


def _facts(
    context: swm.StageContext, matrices: Mapping[Key, Size], ranks: Ranks, numbers: Sequence[int]
) -> dict[str, Any]:
    """What goes, by both ways to count, and which matrices stay as they are."""
    gone = sum(size.saved(ranks[key]) for key, size in matrices.items())
    dense = [f"{numbers[position]}.{role}" for (position, role), rank in ranks.items() if rank is None]
    return {
        "planned_params": gone,
        "planned_ratio": round(gone / context.original.parameters, 6),
        "planned_block_ratio": round(gone / sum(size.parameters for size in matrices.values()), 6),
        **({"kept_dense": dense} if dense else {}),
    }
