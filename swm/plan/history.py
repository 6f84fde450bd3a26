"""What was done to a model object: it is noted on the object, so that later steps and a saved folder know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from swm.errors import PlanError
from swm.model.families import ModelFamily
from swm.model.replacement import Replaced
from swm.model.shape import ModelShape
from swm.model.shared_copy import HISTORY, own_all_numbers
from swm.model.view import ModelView
from swm.plan.plan import Plan


@dataclass(frozen=True)
class History:
    """The plan that made the model of an original one of this `shape`, and what its layers were there.

    `weights` is a hash of the numbers that the plan left, empty where nobody took it; `notes` say what else changed
    them. The other fields are those of `ModelView`.
    """

    plan: Plan
    shape: ModelShape
    weights: str
    notes: tuple[str, ...]
    family: ModelFamily
    numbers: tuple[int, ...]
    ends: tuple[int, ...]
    replaced: tuple[Mapping[str, Replaced], ...]
    tokens: Sequence[int] | None

    def __deepcopy__(self, memo: Any) -> History:
        """Itself: nothing of it ever changes."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Nothing: a model object that goes to another process or into a file goes as one of transformers."""
        return type(None), ()

    def changes(self, view: ModelView, before: str) -> tuple[str, ...]:
        """The notes, and one more where the numbers are no longer those that the plan left, `before` something."""
        if not self.weights or self.weights == view.weights_fingerprint():
            return self.notes
        return (
            *self.notes,
            f"the weights were changed by something else, such as a training, before {before}; the plan repeats its "
            "own steps alone",
        )


def note_history(
    view: ModelView, plan: Plan, shape: ModelShape, compare: bool = True, notes: Sequence[str] = ()
) -> None:
    """Note on a model what made it; from now on all of its numbers are its own.

    Args:
        view: The model.
        plan: All that was done to the original model.
        shape: The shape of the original model.
        compare: Whether to take a hash of the numbers, so that a change by something else is seen later.
        notes: What else changed the model.
    """
    own_all_numbers(view.model, view.memory)
    replaced = tuple(dict(layer) for layer in view.replaced)
    places = tuple(view.numbers), tuple(view.ends), replaced, view.tokens
    weights = view.weights_fingerprint() if compare else ""
    made = History(plan, replace(shape, model=None), weights, tuple(notes), view.family, *places)
    vars(view.model)[HISTORY] = made


def history_of(model: nn.Module) -> History | None:
    """What was done to a model object; None where nothing is known of it."""
    noted: History | None = vars(model).get(HISTORY)
    return noted


def view_with_history(model: Any, family: ModelFamily) -> ModelView:
    """The view of a model object whose layers have the numbers of its original.

    Raises PlanError where the model was changed by something else meanwhile.
    """
    view, noted = ModelView(model, family), history_of(model)
    if noted is None:
        return view
    if len(noted.numbers) != len(view.layers):
        raise PlanError(
            f"the {type(model).__name__} has {len(view.layers)} layers, and {len(noted.numbers)} were left by the "
            "steps that are noted on it: something else changed it, so they cannot be followed"
        )
    view.numbers, view.ends, view.tokens = list(noted.numbers), list(noted.ends), noted.tokens
    view.replaced = [dict(layer) for layer in noted.replaced]
    return view


def identity_of(view: ModelView, source: str, fingerprint: str) -> dict[str, Any]:
    """What a plan says of the model that it was made for.

    Args:
        view: The model before any step.
        source: What it is called.
        fingerprint: That of the model.
    """
    return {
        "source": source,
        "fingerprint": fingerprint,
        "model_type": view.model_config.model_type,
        "dtype": str(next(view.model.parameters()).dtype).removeprefix("torch."),
        "layers": len(view.layers),
        "parameters": view.parameters(),
    }
