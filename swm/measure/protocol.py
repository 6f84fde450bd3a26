"""What a recipe asks to be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from swm.measure.perplexity import PerplexityProtocol
from swm.measure.speed_protocol import SpeedProtocol
from swm.measure.tasks.protocol import TaskProtocol


@dataclass(frozen=True)
class EvaluationRecipe:
    """What is measured on the dense and on the compressed model, with the same protocol.

    `tasks` are lm-eval's by name, or `seven`, or `nine`; `limit`, `num_fewshot`, `include_path`, `task_data` (files
    with the data of tasks) and `max_gen_toks` (the length of answers) say how. `speed: true` measures prefill and
    decode of random prompts, `speed: {preset: shortened-llm}` what the released codes do. `prompts` are answered by
    both models. `measures` are strategies of that kind, by name or with their parameters.
    """

    perplexity: PerplexityProtocol | None = None
    tasks: Sequence[str] = ()
    limit: Annotated[int, Field(ge=1)] | None = None
    num_fewshot: Annotated[int, Field(ge=0, le=1000)] | None = None
    include_path: Sequence[str] = ()
    task_data: Mapping[str, str | Mapping[str, str]] | None = None
    max_gen_toks: Annotated[int, Field(ge=1, le=2**20)] | None = None
    speed: SpeedProtocol | None = None
    prompts: Sequence[str] = ()
    max_new_tokens: Annotated[int, Field(ge=1, le=2**20)] = 48
    measures: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        about = ("limit", "num_fewshot", "include_path", "task_data", "max_gen_toks")
        named = [name for name in about if getattr(self, name)]
        if named and not self.tasks:
            raise ValueError(f"{named[0]} says how tasks are measured, and there are none; add tasks: seven")

    def task_protocol(self) -> TaskProtocol | None:
        """How tasks are measured; None where none is."""
        if not self.tasks:
            return None
        return TaskProtocol(
            self.tasks, self.limit, self.num_fewshot, self.include_path, self.task_data or {}, self.max_gen_toks
        )
