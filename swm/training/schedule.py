"""Schedule: how long and how fast a recovery trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from swm.errors import RecipeError
from swm.training.precision import Precision

LearningRate = Annotated[float, Field(gt=0)] | Literal["auto"]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train. Epochs, batch, rate and length are those of the released
    Sliding-Window Merging code, which also holds out rows (`lora` has it as a preset).

    `steps` of `batch` pieces go before `epochs`; `seconds` ends the training early whatever was asked (then the
    learning rate follows the clock, and two runs are not the same bytes). `micro_batch` pieces are in memory at a time.
    The learning rate rises for `warm_up` steps, at most a tenth of all, and falls to zero. `learning_rate: auto` finds
    it in a few steps of about 1,000 tokens, whose rate grows from 1e-6 on until the loss does; the weights are then
    those from before, and the report has the curve. The time is part of `seconds`. With `held_out` pieces, the
    loss on them is taken before the first step and every `evaluate_every` steps, and the best weights are kept: those
    from before where no others are better. `save_every` steps the state is
    written, so that a run that was killed goes on. `mixed_precision: bf16` multiplies matrices in bfloat16 and keeps
    weights and updates as they are (those of half-precision models are float32 anyway): faster where the processor has
    instructions for it, and `auto` does so only there.

    `packing` puts several short pieces into one row of at most `cutoff` tokens, where each sees itself alone and has
    positions of its own: the same loss, and little is computed for padding. `auto` does so where a trial row gives the
    scores that its pieces have one by one; `true` raises an error where it does not.

    For the part `changed_first` of the training, only the layers from the lowest one that was merged, lost a block or
    stands behind a removed one are trained, and what follows them: no gradient goes through the layers below, so a step
    takes less time. Then all is trained. It has no effect where widths alone were cut.
    """

    epochs: Annotated[int, Field(ge=1)] = 2
    steps: Annotated[int, Field(ge=1, le=10**9)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    batch: Annotated[int, Field(ge=1, le=2**20)] = 64
    micro_batch: Annotated[int, Field(ge=1, le=2**16)] = 4
    learning_rate: LearningRate = 1e-4
    warm_up: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_norm: Annotated[float, Field(gt=0)] = 1.0
    cutoff: Annotated[int, Field(ge=8, le=2**24)] = 256
    pieces: Annotated[int, Field(ge=1)] | None = None
    held_out: Annotated[int, Field(ge=0)] = 0
    evaluate_every: Annotated[int, Field(ge=1)] = 100
    save_every: Annotated[int, Field(ge=1)] = 100
    mixed_precision: Precision = "no"
    packing: bool | Literal["auto"] = "auto"
    changed_first: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def total(self, pieces: int) -> int:
        """The number of steps that are planned for so many pieces."""
        return self.steps or self.epochs * max(1, pieces // min(self.batch, pieces))

    def parts(self, rounds: int) -> list[dict[str, Any]]:
        """What changes in the schedule of each of so many trainings, so that together they train as long as one.

        Seconds, steps or epochs in equal parts. Raises RecipeError where there are fewer than trainings, and for epochs
        that cannot be split into whole ones.
        """
        if self.steps is not None and self.steps < rounds:
            raise RecipeError(f"found {self.steps}; they are split among {rounds} rounds, so say more", ("steps",))
        if self.steps is None and self.seconds is None and self.epochs % rounds:
            raise RecipeError(
                f"found {self.epochs}; whole epochs cannot be split among {rounds} rounds, so say seconds or steps",
                ("epochs",),
            )
        return [self._part(k, rounds) for k in range(rounds)]

    def _part(self, k: int, rounds: int) -> dict[str, Any]:
        if self.steps is None and self.seconds is None:
            return {"epochs": self.epochs // rounds}
        steps = {} if self.steps is None else {"steps": self.steps * (k + 1) // rounds - self.steps * k // rounds}
        return {**steps, **({} if self.seconds is None else {"seconds": self.seconds / rounds})}

    def done(self, step: int, total: int, elapsed: float) -> float:
        """The part of the training that is done, by steps or by the clock."""
        return max(step / total, 0.0 if self.seconds is None else min(elapsed / self.seconds, 1.0))

    def rate(self, step: int, total: int, elapsed: float) -> float:
        """The learning rate of step number `step` (from 0): a linear rise, then a linear fall."""
        # Found before the first step where it is `auto`.
        top, steps = float(self.learning_rate), float(total)
        if self.seconds is not None and step and elapsed:
            # So many fit into the time at the pace so far; most trainings with a clock are planned far too long.
            steps = min(steps, step * self.seconds / elapsed)
        rise = min(self.warm_up, int(steps) // 10)
        if step < rise:
            return top * (step + 1) / rise
        return top * (1 - min((step - rise) / max(steps - rise, 1), 1.0))
