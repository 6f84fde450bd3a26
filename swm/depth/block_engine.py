"""BlockEngine: scores models without some of their sub-blocks, as DepthEngine scores merged ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from swm.depth.merger_trials import MergerTrials
from swm.depth.objective import Objective
from swm.depth.program import Program, Slot, SubBlock
from swm.depth.program_trials import ProgramTrials
from swm.depth.streams import SearchText
from swm.errors import ModelError, RecipeError
from swm.interfaces.merger import LayerMerger, remaining_layers
from swm.interfaces.progress import Task
from swm.interfaces.similarity import SimilarityMetric
from swm.interfaces.stage import StageContext
from swm.model.units import Block
from swm.model.windows import Window, check_windows


class BlockEngine:
    """Implements `DepthContext` where a position is a sub-block: attention, MLP, attention and so on, or one of both.

    A window loses all of its sub-blocks but the one that survives its deletion.
    """

    def __init__(
        self,
        context: StageContext,
        similarity: SimilarityMetric,
        merger: LayerMerger,
        blocks: Sequence[SubBlock],
        part: Block | None = None,
        task: Task | None = None,
        samples: int | None = None,
    ) -> None:
        """Nothing is run before something is asked.

        Args:
            context: The model, the calibration text and the cache.
            similarity: What trials and comparisons measure.
            merger: A deletion, which says what survives of a window.
            blocks: All sub-blocks that can go, in the order of the residual stream.
            part: Positions are those of this part alone; None for all.
            task: Told about each trial.
            samples: Trials look at the first so many samples of the text, all by default.
        """
        self.blocks = [block for block in blocks if part in (None, block.part)]
        self.layers = len(self.blocks)
        self.target: int | None = None
        self.sizes: Sequence[float] | None = None
        self.seed = context.seed
        self.similarity = similarity
        self._merger = merger
        self._all = blocks
        text = SearchText(context.calibration.samples[:samples])
        self._text, objective = text, Objective(context.view, similarity)
        self._trials = MergerTrials(context, text, objective, merger, {})
        self._measured = ProgramTrials(objective, text, task)

    @property
    def trials(self) -> int:
        """How many models were tried."""
        return self._measured.trials

    def gone(self, windows: Sequence[Window]) -> list[SubBlock]:
        """The sub-blocks that these windows lose."""
        kept = set(remaining_layers(self._merger, check_windows(windows, self.layers), self.layers))
        return [block for position, block in enumerate(self.blocks) if position not in kept]

    def removable(self, layers: Sequence[int]) -> bool:
        """Always: no config says which sub-blocks there are. See `DepthContext.removable`."""
        return True

    def trial(self, windows: Sequence[Window], above: float | None = None) -> float:
        """See `DepthContext.trial`."""
        return self._measured.similarity(self._trials, lambda: self._program(windows), self._shown(windows), above)

    def loss(self, windows: Sequence[Window]) -> float:
        """See `DepthContext.loss`."""
        return self._measured.loss(self._trials, self._program(windows), self._shown(windows))

    def compare(self, lower: int, upper: int) -> float:
        """Similarity of the hidden states before sub-block `lower` and after the one below `upper`.

        Between the attention and the MLP of a layer they are what the layer gives without its MLP.
        """
        if self.similarity.space == "logits":
            raise RecipeError(
                f"similarity '{self.similarity.name}' compares next-token distributions, and this depth pruner "
                "compares sub-blocks; use one that compares hidden states"
            )
        first, last = self.blocks[lower], self.blocks[upper - 1]
        name = self._trials.name(f"blocks from {_named(first)} to {_named(last)}")
        return self._trials.memo.number(name, lambda: self._compared(first, last))

    def hidden(self, layer: int) -> Iterator[Tensor]:
        """See `DepthContext.hidden`: what stands before the sub-block at that position."""
        states = self._after(self.blocks[-1]) if layer == self.layers else self._before(self.blocks[layer])
        return (states[rows].clone() for rows in self._trials.settled().scored.recording.rows)

    def local(self, window: Window) -> float:
        """Not a number: nothing predicts a trial here. See `DepthContext.local`."""
        return math.nan

    def commit(self, windows: Sequence[Window]) -> None:
        """See `DepthContext.commit`."""
        self._text.decided_batches()
        self._trials.build_on(self._program(windows))

    def _program(self, windows: Sequence[Window]) -> Program:
        return self._trials.program([], (), self.gone(windows))

    def _compared(self, first: SubBlock, last: SubBlock) -> float:
        value = self.similarity.compare_states(self._before(first), self._after(last))
        if math.isnan(value):
            raise ModelError(
                f"similarity '{self.similarity.name}' of {_named(first)} and {_named(last)} is not a number"
            )
        return value

    def _before(self, block: SubBlock) -> Tensor:
        below = [other for other in self._all if other.position == block.position and other.part == "attention"]
        return self._inside(block) if block.part == "mlp" and below else self._entering(block.position)

    def _after(self, block: SubBlock) -> Tensor:
        above = [other for other in self._all if other.position == block.position and other.part == "mlp"]
        return self._inside(above[0]) if block.part == "attention" and above else self._entering(block.position + 1)

    def _entering(self, position: int) -> Tensor:
        return self._trials.settled().entering(position)

    @torch.no_grad()
    def _inside(self, mlp: SubBlock) -> Tensor:
        """What the layer gives without its MLP."""
        streams, position = self._trials.settled(), mlp.position
        slot = streams.base[position]
        others = tuple(block for block in slot.gone if block.part != mlp.part)
        silent = Slot(position, gone=(*others, mlp))
        stream = streams.scored
        return streams.run(silent, stream.states[position], streams.base, stream, stream.carried_to(position))

    def _shown(self, windows: Sequence[Window]) -> str:
        return " ".join(f"-{_named(block)}" for block in self.gone(windows)) or "all"


def _named(block: SubBlock) -> str:
    return f"{block.part} {block.position}"
