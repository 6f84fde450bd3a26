"""What the `depth` stage does where its unit is no whole layer: attentions and MLPs go one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from swm.builtin.steps.drop import DropStep
from swm.costs.goal import Goal
from swm.depth.block_engine import BlockEngine
from swm.depth.program import SubBlock
from swm.depth.sub_blocks import removable, removals, sub_blocks
from swm.errors import BudgetError, FamilyError, RecipeError
from swm.interfaces.depth import DepthProposal, DepthPruner
from swm.interfaces.merger import LayerMerger
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import StageContext, StagePlan
from swm.interfaces.target import Target
from swm.model.blocks import block_modules, block_name
from swm.model.finite import not_finite
from swm.model.ranges import format_ranges
from swm.model.shape import ModelShape
from swm.model.units import BLOCKS, Block
from swm.model.view import ModelView

Unit = Literal["layer", "attention", "mlp", "any"]

# So many numbers of sub-blocks are tried to meet a target in parameters.
ROUNDS = 8


@dataclass(frozen=True)
class BlockRemoval:
    """Removes the sub-blocks of `part` that the pruner chooses, attentions and MLPs alike where it is None."""

    pruner: DepthPruner
    similarity: SimilarityMetric
    merger: LayerMerger
    part: Block | None
    target: Target | None
    samples: int | None

    def check_strategies(self) -> None:
        """Raise RecipeError for a pruner or merger that makes no sense here."""
        if self.pruner.only_layers:
            raise RecipeError(f"'{self.pruner.name}' removes whole layers only: {self.pruner.only_layers}", ("pruner",))
        if not self.merger.deletes:
            raise RecipeError(
                f"'{self.merger.name}' makes one layer of several; attentions and MLPs are left out, so use delete",
                ("merger",),
            )

    def check_target(self, view: ModelView, shape: ModelShape, first: bool = True) -> None:
        """Raise BudgetError where fewer can go, FamilyError where there are none. Needs no weights.

        Args:
            view: The model.
            shape: The shape of the original model.
            first: Whether no earlier stage removes anything.
        """
        if self.part is not None:
            view.family.check_proven(block_name(self.part))
        sizes = {
            (position, part): sum(p.numel() for path in paths for p in layer.get_submodule(path).parameters())
            for position, layer in enumerate(view.layers)
            for part, paths in block_modules(layer, view.family).items()
            if self.part in (None, part) and block_name(part) not in view.family.disproven
        }
        if not sizes:
            raise FamilyError(f"no layer of this {view.config.model_type} has an {self.part or 'attention or MLP'}")
        capacity = self._capacity(len(sizes))
        if self.target is None:
            return
        if self.target.blocks is not None:
            self._check_count(self.target.blocks, len(sizes), capacity)
            return
        goal = self.target.goal(shape, view)
        costs = {key: goal.cost.block(*key, size) for key, size in sizes.items()}
        for part in {part for _, part in costs}:
            goal.check_some(f"the {part} of a layer", [cost for key, cost in costs.items() if key[1] == part])
        if goal.least and not first:
            return
        goal.check_asks()
        if goal.amount > sum(sorted(costs.values())[-capacity:]):
            raise self._too_much(goal.unit.written(goal.amount), len(sizes), capacity)

    def plan(self, context: StageContext) -> StagePlan:
        """The steps that remove them."""
        view, ids = context.view, context.calibration.samples.text
        blocks = removable(context, sub_blocks(view, ids))
        label = f"{self.pruner.name} · {self.part or 'attention and mlp'}"
        effort = None
        if self.target is not None and self.target.blocks is not None:
            total = sum(self.part in (None, block.part) for block in blocks)
            effort = self.pruner.effort(total, self.target.blocks)
        with context.progress.task(label, effort) as task:
            engine = BlockEngine(context, self.similarity, self.merger, blocks, self.part, task, self.samples)
            if not engine.blocks:
                raise FamilyError(f"no layer of this {view.config.model_type} has an {self.part} that can go alone")
            proposal = self._proposal(engine, context.original, view)
            gone = engine.gone(proposal.windows)
            engine.commit([])
            final = engine.trial(proposal.windows)
        if math.isnan(final):
            raise not_finite("without the removed attention and MLPs there are", view.dtype, "remove fewer")
        steps = drops(view, ids, gone)
        names = [f"{block.part} {view.numbers[block.position]}" for block in engine.blocks]
        facts = {
            **proposal.facts,
            "positions": names,
            "removed_blocks": {
                part: format_ranges(view.numbers[block.position] for block in gone if block.part == part)
                for part in BLOCKS
                if any(block.part == part for block in gone)
            },
            "similarity": final,
            "trials": engine.trials,
        }
        if self.target is not None and self.target.limited is not None:
            facts["planned_saving"] = sum(_size(gone, self.target.goal(context.original, view)))
        return StagePlan(steps, facts)

    def _proposal(self, engine: BlockEngine, original: ModelShape, view: ModelView) -> DepthProposal:
        total = engine.layers
        capacity = self._capacity(total)
        if self.target is None or self.target.blocks is not None:
            engine.target = None if self.target is None else self.target.blocks
            self._check_count(engine.target or 1, total, capacity)
            return self.pruner.proposed(engine)
        goal = self.target.goal(original, view)
        sizes = _size(engine.blocks, goal)
        mean = sum(sizes) / total
        # Where none of them counts, such as an MLP for a key-value cache, there is nothing to compare it with.
        engine.sizes = sizes if min(sizes) > 0 and max(sizes) > min(sizes) else None
        tried: dict[int, tuple[float, DepthProposal]] = {}
        count = min(goal.whole(mean), capacity)
        # Attentions and MLPs differ in size, so how many meet the goal depends on which they are.
        while count not in tried and len(tried) < ROUNDS:
            engine.target = count
            engine.commit([])
            proposal = self.pruner.proposed(engine)
            missing = goal.amount - sum(_size(engine.gone(proposal.windows), goal))
            tried[count] = missing, proposal
            count = min(max(1, count + (round(missing / mean) or (1 if missing > 0 else -1))), capacity)
            if goal.least and count in tried and not any(missing <= 0 for missing, _ in tried.values()):
                count = min(max(tried) + 1, capacity)
        enough = [one for one in tried.values() if not goal.least or one[0] <= 0]
        missing, proposal = min(enough or tried.values(), key=lambda one: abs(one[0]))
        if missing > mean or not enough:
            raise self._too_much(goal.unit.written(goal.amount), total, capacity)
        return proposal

    def _capacity(self, total: int) -> int:
        capacity = self.pruner.capacity(total)
        if capacity < 1:
            raise BudgetError(f"'{self.pruner.name}' can remove nothing from {self._counted(total)}")
        return capacity

    def _check_count(self, count: int, total: int, capacity: int) -> None:
        if count > capacity:
            raise self._too_much(str(count), total, capacity)

    def _too_much(self, asked: str, total: int, capacity: int) -> BudgetError:
        return BudgetError(
            f"target {self.target} asks to remove {asked} of {self._counted(total)}; '{self.pruner.name}' can remove "
            f"at most {capacity} of them here"
        )

    def _counted(self, total: int) -> str:
        names = {None: "attentions and MLPs", "attention": "attentions", "mlp": "MLPs"}
        return f"{total} {names[self.part]}"


def drops(view: ModelView, ids: Tensor, gone: Sequence[SubBlock]) -> list[DropStep]:
    """The steps that remove these; `ids` is a text `[samples, seq]`, of which a few tokens are run."""
    chosen = removals(view, ids, gone) if gone else []
    return [DropStep(view.numbers[block.position], block.part, removal) for block, removal in chosen]


def _size(blocks: Sequence[SubBlock], goal: Goal) -> list[float]:
    """What goes with each of them, in the goal's unit."""
    return [goal.cost.block(block.position, block.part, block.parameters) for block in blocks]
