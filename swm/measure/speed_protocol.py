"""How speed is measured, and the protocol of others as a preset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from swm.errors import RecipeError, quoted
from swm.measure.presets import apply_preset

# Of the Sliding-Window Merging and Shortened LLaMA codes: one sentence, one sequence, tokens drawn at random.
PRESETS: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "shortened-llm": {
            "batch_sizes": [1],
            "prompt": "The Leaning Tower of Pisa is known for",
            "new_tokens": 128,
            "runs": 30,
            "warm_up": 10,
            "decoding": "sampled",
        }
    }
)
GREEDY: MappingProxyType[str, Any] = MappingProxyType({"do_sample": False})
SAMPLED: MappingProxyType[str, Any] = MappingProxyType(
    {"do_sample": True, "temperature": 1.0, "top_k": 50, "top_p": 0.95}
)


@dataclass(frozen=True)
class SpeedProtocol:
    """How speed is measured.

    Prefill is one forward pass over a prompt, decode the generation of `new_tokens` after it, each for every batch
    size, `runs` times, of which the first `warm_up` do not count. The prompt is `prompt_tokens` random tokens, or the
    text `prompt`. Decoding is greedy, or `sampled` with temperature 1, top-k 50 and top-p 0.95. `preset: shortened-llm`
    is what the Sliding-Window Merging and Shortened LLaMA codes measure: a short sentence, batch 1, sampled; the times
    of their tables are then `mean_s` of decode. The defaults have its runs and tokens, and another prompt, greedy.
    """

    batch_sizes: Annotated[Sequence[Annotated[int, Field(ge=1, le=2**16)]], Field(min_length=1)] = (1, 4)
    prompt_tokens: Annotated[int, Field(ge=1, le=2**20)] = 128
    new_tokens: Annotated[int, Field(ge=2, le=2**20)] = 128
    runs: Annotated[int, Field(ge=3, le=10**6)] = 30
    warm_up: Annotated[int, Field(ge=0)] = 10
    prompt: Annotated[str, Field(min_length=1)] | None = None
    decoding: Literal["greedy", "sampled"] | None = None
    preset: Literal["shortened-llm"] | None = None

    def __post_init__(self) -> None:
        if self.runs - self.warm_up < 2:
            raise ValueError(f"{self.runs} runs with {self.warm_up} for warm-up leave too few; at least 2 must count")

    @classmethod
    def complete(cls, values: dict[str, Any], build: Any) -> dict[str, Any]:
        """Fill in what a preset says. Raises RecipeError for a value beside it that says something else."""
        apply_preset(values, PRESETS)
        return values

    def prompt_ids(self, tokenizer: Any) -> list[int] | None:
        """The token ids of the prompt; None where they are random. Raises RecipeError for a prompt without a token."""
        if self.prompt is None:
            return None
        ids: list[int] = tokenizer(self.prompt)["input_ids"]
        if not ids:
            raise RecipeError(f"the tokenizer makes no token of {quoted(self.prompt)}", ("speed", "prompt"))
        return ids

    def sampling(self) -> dict[str, Any]:
        """How tokens are chosen, in the words of `generate`."""
        return dict(SAMPLED if self.decoding == "sampled" else GREEDY)

    def record(self, given: Sequence[int] | None) -> dict[str, Any]:
        """What the findings say of it."""
        values = {key: value for key, value in vars(self).items() if value is not None}
        values["batch_sizes"] = list(self.batch_sizes)
        return values if given is None else {**values, "prompt_tokens": len(given)}
