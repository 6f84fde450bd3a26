"""TrainStep: a recovery is run at this place of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from swm.errors import PlanError
from swm.interfaces.stage import Step
from swm.model.view import ModelView


@final
@dataclass(frozen=True)
class TrainStep(Step):
    """A training by the recovery of this name. It needs its text, so a plan cannot repeat it."""

    name: ClassVar[str] = "learn"
    needs_data: ClassVar[bool] = True

    recovery: str

    def apply(self, view: ModelView, tensors: Mapping[str, Tensor]) -> None:
        raise PlanError(f"a plan cannot repeat the training by '{self.recovery}'; run the recipe for that")

    def describe(self) -> str:
        return f"train by {self.recovery}"
