"""The memory plan: what a run keeps, where it keeps it, and whether the memory it may take is enough for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swm.errors import ModelError
from swm.interfaces.stage import Stage
from swm.memory.byte_size import parse_bytes, written_bytes
from swm.memory.machine import available_memory, own_memory, physical_memory
from swm.memory.process import give_freed_memory_back, trim_freed_memory
from swm.memory.working_memory import WorkingMemory
from swm.model.devices import weight_dtype
from swm.model.samples import TOKENS_PER_BATCH
from swm.model.shape import ModelShape
from swm.model.token_scores import SCORE_BYTES
from swm.model.view import ModelView
from swm.run.shared_states import reference_samples, shared_names

# Next-token scores are made in pieces; a piece stands beside what it was converted from and what is computed with it.
# Where there are few of them, this is room for what libraries take while they compute.
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
    in_memory: bool = False
    """Whether the weights are those of a model object, which the user holds anyway."""

    def memory(self, folder: Path | None = None) -> WorkingMemory:
        """What decides, tensor by tensor, as planned; where not all fits, freed memory is not kept for later."""
        if self.states + self.weights > self.limit:
            give_freed_memory_back()
        return WorkingMemory(self.limit, folder)

    def sentence(self) -> str:
        """What is kept where, in a line."""
        whole = "what is free" if self.given is None else written_bytes(self.given)
        where = "in memory" if self.states <= self.limit else f"in mapped files beyond {written_bytes(self.limit)}"
        states = f"hidden states {written_bytes(self.states)}, {where}; " if self.states else ""
        weights = "converted one by one" if self.converted else "mapped from their files"
        weights = "those of the model object" if self.in_memory else weights
        return (
            f"memory: {whole}; weights {written_bytes(self.weights)}, {weights}; "
            f"{states}scores in pieces of {written_bytes(SCORE_BYTES)}"
        )

    def record(self) -> dict[str, Any]:
        """For the report."""
        return {"given": self.given, "weights": self.weights, "hidden_states": self.states, "least": self.floor}


@dataclass(frozen=True)
class Need:
    """What a job takes beside the weights of its model. It is known before any are loaded.

    `tokens` are run together, at `token_bytes` each. `worked_on` are the bytes of the weights that are made or copied
    at one time, and `working` those that lie in memory besides, whatever lies in files.
    """

    tokens: int
    token_bytes: int
    worked_on: int
    states: int = 0
    """Bytes of the hidden states that are kept at one time."""
    working: int = 0
    tokens_of: str = ""
    """What a user sets so that fewer tokens are run together; empty for nothing."""
    working_of: str = ""
    """What `working` is for."""
    lighter: Callable[[], Mapping[str, int]] = dict
    """Settings with which `working` is less, as a user writes them, and how much it is then."""


def token_bytes(width: int) -> int:
    """Bytes of one token while a layer runs on it, `width` being that of its hidden states."""
    return width * 4 * ACTIVATIONS_OF_A_LAYER


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
        ModelError: As `plan_for`.
        RecipeError: `given` is no size.
    """
    kind = weight_dtype(dtype, config)
    seen = [stage.seen_samples() for stage in stages]
    each = [tokens if samples is None else min(tokens, samples * seq_len) for samples in seen]
    states = max((stage.kept_states(shape.layers) * n for stage, n in zip(stages, each, strict=True)), default=0)
    read = min(tokens, seq_len * reference_samples(stages, -(-tokens // seq_len)))
    if read:
        # The end of the original model, which later stages compare with, and the run that gives it.
        states = max(states, 2 * read) + read
    # What stages leave for later ones of their sort: that end once more.
    states += tokens * len({stage.shares for stage in stages[:-1]} & shared_names(stages[1:]))
    needs = [] if model is None else [s.working_bytes(model, kind, n) for s, n in zip(stages, each, strict=True)]
    working = max(needs, default=0)
    heaviest = stages[needs.index(working)] if working else None

    def lighter() -> dict[str, int]:
        if heaviest is None or model is None:
            return {}
        given = heaviest.lighter(model, kind, each[needs.index(working)])
        return {f"{heaviest.name} with {name}": size for name, size in given.items()}

    need = Need(
        tokens=max(min(tokens, TOKENS_PER_BATCH), seq_len),
        token_bytes=token_bytes(config.hidden_size),
        worked_on=2 * max(shape.layer_parameters) * kind.itemsize,
        states=states * config.hidden_size * kind.itemsize,
        working=working,
        tokens_of="calibration with samples x seq_len",
        working_of="" if heaviest is None else f"what stage '{heaviest.name}' cannot stream",
        lighter=lighter,
    )
    return plan_for(given, need, shape.parameters, config, dtype, on_cpu=model is not None)


def plan_for(
    given: str | int | None, need: Need, parameters: int, config: Any, dtype: str, *, on_cpu: bool
) -> MemoryPlan:
    """The memory plan of a job.

    Args:
        given: How much it may take; None for what is free.
        need: What it takes beside the weights.
        parameters: How many weights there are.
        config: The config of the model.
        dtype: The type in which they are wanted, `auto` for that of the config.
        on_cpu: Whether it computes on the CPU.

    Raises:
        ModelError: So much memory, or that of the machine, is too little, whatever lies in files; says which numbers
            would do.
        RecipeError: `given` is no size.
    """
    trim_freed_memory()
    floor = own_memory() + need.worked_on + need.tokens * need.token_bytes + SCORES + need.working
    size = None if given is None else parse_bytes(given)
    have = physical_memory() if size is None and on_cpu else size
    if have is not None and have < floor:
        named = f"this machine has {written_bytes(have)}" if size is None else f"found {given}"
        which = f", {written_bytes(need.working)} of it for {need.working_of}" if need.working_of else ""
        raise ModelError(
            f"{named}; this run needs {written_bytes(floor)} or more beside what lies in files{which}; "
            f"{', or '.join(_what_would_do(need, have - floor)) or 'a smaller model needs less'}"
        )
    whole = SHARE * available_memory() if size is None else size
    kind, stored = weight_dtype(dtype, config), weight_dtype("auto", config)
    return MemoryPlan(
        size, max(0, int(whole - floor)), parameters * kind.itemsize, need.states, int(floor), kind != stored
    )


def _what_would_do(need: Need, beyond: int) -> list[str]:
    """Settings that need no more than there is: each alone, and all else as it is.

    A text of which hardly a token fits is none.

    Args:
        need: What is too much.
        beyond: How many bytes there are, less those that are needed.
    """
    would = []
    tokens = (beyond + need.tokens * need.token_bytes) // need.token_bytes
    if need.tokens_of and tokens >= 2:
        would.append(f"{need.tokens_of} of at most {tokens:,} tokens fits")
    left = beyond + need.working
    return would + [f"{name} fits" for name, size in need.lighter().items() if size <= left]
