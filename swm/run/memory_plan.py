"""The memory plan: what a run keeps, where it keeps it, and whether the memory it may take is enough for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from swm.errors import ModelError
from swm.interfaces.stage import Stage
from swm.memory.byte_size import parse_bytes, written_bytes
from swm.memory.machine import available_memory, give_freed_memory_back, own_memory, physical_memory
from swm.memory.working_memory import WorkingMemory
from swm.model.samples import TOKENS_PER_BATCH
from swm.model.shape import ModelShape
from swm.model.token_scores import SCORE_BYTES
from swm.model.view import ModelView

# Next-token scores are made in pieces; a piece stands beside what it was converted from and what is computed with it.
SCORES = 3 * SCORE_BYTES
# Without `memory`, this share of what is free is taken: other processes need some, and mapped files live there.
SHARE = 0.7
# Of a layer: its inputs, its attention and its MLP on one batch, in float32.
ACTIVATIONS_OF_A_LAYER = 12


@dataclass(frozen=True)
class MemoryPlan:
    """How many bytes a run keeps of what.

    `given` is what the recipe's `memory` says, None where it says nothing; `limit` what may be kept in memory of
    `states` (hidden states of the calibration text, the most of any stage) and of new weights. `floor` is needed
    whatever happens: Python and its libraries, one layer, one batch, its scores.
    """

    given: int | None
    limit: int
    weights: int
    states: int
    floor: int
    converted: bool = False
    """Whether the weights are wanted in another dtype than that of their files."""

    def memory(self, folder: Path | None = None) -> WorkingMemory:
        """What decides, tensor by tensor, as planned; where not all fits, freed memory is not kept for later."""
        if self.states + self.weights > self.limit:
            give_freed_memory_back()
        return WorkingMemory(self.limit, folder)

    def sentence(self) -> str:
        """What is kept where, in a line."""
        whole = "what is free" if self.given is None else written_bytes(self.given)
        states = "in memory" if self.states <= self.limit else "in mapped files beyond"
        where = f" {written_bytes(self.limit)}" if self.states > self.limit else ""
        weights = "converted one by one" if self.converted else "mapped from their files"
        return (
            f"memory: {whole}; weights {written_bytes(self.weights)}, {weights}; hidden states "
            f"{written_bytes(self.states)}, {states}{where}; scores in pieces of {written_bytes(SCORE_BYTES)}"
        )

    def record(self) -> dict[str, Any]:
        """For the report."""
        return {"given": self.given, "weights": self.weights, "hidden_states": self.states, "least": self.floor}


def plan_memory(
    given: str | int | None,
    stages: Sequence[Stage],
    shape: ModelShape,
    config: Any,
    tokens: int,
    dtype: str,
    model: ModelView | None = None,
    seq_len: int = 1,
) -> MemoryPlan:
    """The memory plan of a run on the CPU.

    Args:
        given: The recipe's `memory`.
        stages: The recipe's stages.
        shape: The shape of the model.
        config: The config of the text model.
        tokens: How many tokens of calibration text there are.
        dtype: The recipe's `dtype`.
        model: The model without its weights, where it computes on the CPU: what stages need beside hidden states is
            counted then.
        seq_len: How many of the tokens a sample has, which are run together.

    Raises:
        ModelError: So much memory, or that of the machine, is too little, whatever lies in files; says which numbers
            would do.
        RecipeError: `given` is no size.
    """
    kind = getattr(torch, dtype) if dtype != "auto" else (getattr(config, "dtype", None) or torch.float32)
    hidden = config.hidden_size * kind.itemsize
    places = max((stage.kept_states(shape.layers) for stage in stages), default=0)
    if len(stages) > 1:
        # The end of the original model, which later stages compare with, and the run that gives it.
        places = max(places, shape.layers + 1) + 1
    states = places * tokens * hidden
    per_token = config.hidden_size * 4 * ACTIVATIONS_OF_A_LAYER
    batch = max(min(tokens, TOKENS_PER_BATCH), seq_len) * per_token
    needs = [] if model is None else [stage.working_bytes(model, kind) for stage in stages]
    working = max(needs, default=0)
    floor = own_memory() + 2 * max(shape.layer_parameters) * kind.itemsize + batch + SCORES + working
    size = None if given is None else parse_bytes(given)
    have = physical_memory() if size is None and model is not None else size
    if have is not None and have < floor:
        named = f"this machine has {written_bytes(have)}" if size is None else f"found {given}"
        would = _what_would_do(have - floor + batch, per_token=per_token) if batch else []
        which = ""
        if working and model is not None:
            heaviest = stages[needs.index(working)]
            which = f", {written_bytes(working)} of it for what stage '{heaviest.name}' cannot stream"
            would += _lighter(heaviest, model, kind, have - floor + working)
        raise ModelError(
            f"{named}; this run needs {written_bytes(floor)} or more beside what lies in files{which}; "
            f"{', or '.join(would) or 'a smaller model needs less'}"
        )
    whole = SHARE * available_memory() if size is None else size
    stored = getattr(config, "dtype", None) or torch.float32
    return MemoryPlan(
        size, max(0, int(whole - floor)), shape.parameters * kind.itemsize, states, int(floor), kind != stored
    )


def _what_would_do(left: int, per_token: int) -> list[str]:
    """A calibration text whose largest batch fits into the bytes that are left; nothing where hardly a token does."""
    tokens = left // per_token
    return [f"calibration with samples x seq_len of at most {tokens:,} tokens fits"] if tokens >= 2 else []


def _lighter(stage: Stage, model: ModelView, dtype: torch.dtype, left: int) -> list[str]:
    """The settings of a stage that need no more than the bytes that are left.

    Args:
        stage: The stage.
        model: The model without its weights.
        dtype: That of the weights.
        left: What there is beside everything else.
    """
    sizes = stage.lighter(model, dtype)
    return [f"{stage.name} with {name} fits" for name, size in sizes.items() if size <= left]
