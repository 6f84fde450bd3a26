"""What may be left of a model at most, said in the unit that a server feels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field

from swm.costs.cost import Conditions, CostUnit
from swm.costs.decode_time import DecodeTime
from swm.costs.goal import Goal
from swm.costs.sizes import ActiveParameters, KvCache, Memory
from swm.errors import RecipeError
from swm.memory.byte_size import parse_bytes
from swm.model.shape import ModelShape
from swm.model.view import ModelView

Limited = TypeVar("Limited", bound="ResultLimit")
DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "fp32": torch.float32,
        "float32": torch.float32,
        "bf16": torch.bfloat16,
        "bfloat16": torch.bfloat16,
        "fp16": torch.float16,
        "float16": torch.float16,
    }
)


@dataclass(frozen=True)
class ResultLimit:
    """What the result has at most: `memory` (weights and KV cache), `kv_cache`, `active_params` (those that a token
    passes) or `latency` (decoding one token). A number between 0 and 1 is a share of what the original model has."""

    memory: int | float | str | None = None
    kv_cache: int | float | str | None = None
    active_params: int | float | None = None
    latency: Annotated[float, Field(gt=0, lt=1)] | None = None
    context: Annotated[int, Field(ge=1)] | None = None
    batch: Annotated[int, Field(ge=1)] | None = None
    dtype: Literal["fp32", "float32", "bf16", "bfloat16", "fp16", "float16"] | None = None

    def check_limit(self) -> None:
        """Raise ValueError for a limit that makes no sense, or lacks what it depends on."""
        name = self.limited
        for key in ("context", "batch", "dtype"):
            if getattr(self, key) is not None and (name is None or key not in UNITS[name].asked):
                users = " or ".join(unit for unit, kind in UNITS.items() if key in kind.asked)
                raise ValueError(f"{key} goes with {users} alone; leave it out")
        if name is None:
            return
        if name in ("memory", "kv_cache") and self.context is None:
            raise ValueError(f"{name} depends on how many tokens are kept: add context, such as context: 4096")
        self._amount()

    @property
    def limited(self) -> str | None:
        """The unit in which the result is limited; None where it is not."""
        return next((name for name in UNITS if getattr(self, name) is not None), None)

    def unit(self, original: ModelShape, view: ModelView) -> CostUnit:
        """The unit of this limit, for weights of the original model's type where it names none."""
        limited = self.limited
        if limited is None:
            raise RecipeError("nothing says what the result has at most")
        dtype = DTYPES[self.dtype] if self.dtype else original.dtype or view.dtype
        return UNITS[limited].made(Conditions(self.context, self.batch or 1, dtype, original.model or view))

    def ceiling(self, original: ModelShape, view: ModelView) -> float:
        """The most that may be left; `view` is the model, for a limit that is no share of the original one."""
        amount = self._amount()
        if amount >= 1 or self.limited == "latency":
            return amount
        if original.model is None:
            raise RecipeError(f"{self.limited}: a share needs the original model, which is not known here")
        return amount * self.unit(original, view).of(original.model).total

    def too_much(self, original: ModelShape, view: ModelView) -> Goal:
        """What must go of the model as it is; `original` is the shape of the model before the first stage."""
        unit = self.unit(original, view)
        cost = unit.of(view)
        return Goal(unit, cost, cost.total - self.ceiling(original, view), least=True)

    def at_most(self: Limited, ceiling: float) -> Limited:
        """The same limit with another amount."""
        amount = ceiling if self.limited == "latency" else max(1, int(ceiling + 1e-6))
        changed: dict[str, Any] = {str(self.limited): amount}
        return replace(self, **changed)

    def conditions(self) -> dict[str, Any]:
        """What the limit depends on, as the recipe has it."""
        keys = ("context", "batch", "dtype")
        return {key: getattr(self, key) for key in keys if getattr(self, key) is not None}

    def _amount(self) -> float:
        """The number that is given. Raises ValueError for one that makes no sense."""
        name = str(self.limited)
        value = getattr(self, name)
        if isinstance(value, float) and (0 < value < 1 or name == "latency"):
            return value
        counted = name == "active_params"
        if not isinstance(value, bool | float):
            if not counted:
                try:
                    return float(parse_bytes(value))
                except RecipeError as error:
                    raise ValueError(f"{name}: {error}") from None
            if value >= 1:
                return float(value)
        what = "a whole number of parameters" if counted else "a size such as 4GiB"
        raise ValueError(f"{name}: found {value}; it is {what}, or a share between 0 and 1")


# The units by name: nothing else knows them.
UNITS: Mapping[str, type[CostUnit]] = MappingProxyType(
    {"memory": Memory, "kv_cache": KvCache, "active_params": ActiveParameters, "latency": DecodeTime}
)
