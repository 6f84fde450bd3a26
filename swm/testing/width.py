"""What every width pruner must do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from swm.errors import FamilyError
from swm.interfaces.progress import Silent
from swm.interfaces.stage import Stage
from swm.interfaces.width import CoupledWeight, UnitGroup, WidthPruner
from swm.model.families import find_family
from swm.model.units import Part
from swm.model.view import ModelView
from swm.testing.checks import Parameters
from swm.testing.expect import changed, copies, expect, works, wrong
from swm.testing.model_checks import ModelChecks
from swm.testing.tiny import tiny_ids, tiny_model
from swm.width.scoring import score_units


class WidthChecks(ModelChecks):
    """Checks of a width pruner."""

    def stage(self, strategy: WidthPruner, parts: Sequence[Part] = ("attention", "mlp")) -> Stage:
        return self.stage_of(WidthPruner.kind, pruner=strategy, layer_ratio=0.5, units=list(parts))

    def _make(self, strategy: WidthPruner, view: ModelView) -> Stage:
        return self.stage(strategy, parts_of(view, strategy))

    def test_it_gives_one_finite_number_a_unit(self, given: Parameters) -> None:
        for group, score in self._scores(given):
            where = f"the {group.units} {group.part} units of layer {group.layer}"
            if not isinstance(score, Tensor):
                wrong(f"{self.who(given)} gives a {type(score).__name__} for {where}; it must be a tensor")
            shape = tuple(score.shape)
            expect(shape == (group.units,), f"{self.who(given)} gives {shape} for {where}; it must be ({group.units},)")
            expect(bool(torch.isfinite(score).all()), f"{self.who(given)} gives {score.tolist()} for {where}")

    def test_it_is_the_same_twice(self, given: Parameters) -> None:
        for (group, first), (_, second) in zip(self._scores(given), self._scores(given), strict=True):
            same = torch.equal(first, second)
            expect(same, f"{self.who(given)} scores the {group.part} of layer {group.layer} otherwise the second time")

    def test_the_weights_it_reads_are_never_written(self, given: Parameters) -> None:
        pruner = self.build(given)
        for group, _ in self._scores(given):
            before = copies(tensors(group))
            pruner.score(group)
            names = changed(before, tensors(group))
            expect(not names, f"{self.who(given)} writes to the {names} that it is given")

    def test_scores_belong_to_their_own_layer(self, given: Parameters) -> None:
        """A layer's scores are the same whichever layers were scored before it."""
        pruner = self.build(given)
        groups = [group for group, _ in self._scores(given)]
        forth = [pruner.score(group) for group in groups]
        back = [pruner.score(group) for group in reversed(groups)][::-1]
        for group, one, other in zip(groups, forth, back, strict=True):
            where = f"the {group.part} of layer {group.layer}"
            expect(torch.equal(one, other), f"{self.who(given)} scores {where} by what it scored before")

    def _scores(self, given: Parameters) -> list[tuple[UnitGroup, Tensor]]:
        """Groups of a tiny model with what the pruner says it needs, and nothing else, and its scores."""
        pruner = self.build(given)
        spy = RecordingPruner(pruner)
        model = tiny_model(self.families[0])
        view = ModelView(model, find_family(model.config, self.registry.families))
        positions = range(len(view.layers))
        try:
            with works(f"scoring with {self.who(given)}"), Silent().task("score") as task:
                score_units(view, tiny_ids(), spy, positions, parts_of(view, pruner), task)  # type: ignore[arg-type]
        except (AttributeError, TypeError) as error:
            if "NoneType" in str(error):
                wrong(f"{self.who(given)} reads what its needs() does not name: {error}")
            raise
        return spy.scores


class RecordingPruner:
    """Keeps the groups that a pruner is given and the scores that it returns; returns zeros itself, always valid."""

    def __init__(self, pruner: WidthPruner) -> None:
        self.pruner = pruner
        self.scores: list[tuple[UnitGroup, Tensor]] = []
        self.name, self.needs, self.compensates = pruner.name, pruner.needs, pruner.compensates

    def score(self, group: UnitGroup) -> Tensor:
        # Gradients of a layer are gone once the next one is scored.
        weights = [_copied(weight) for weight in group.weights]
        group = replace(group, weights=weights)
        self.scores.append((group, self.pruner.score(group)))
        return torch.zeros(group.units)


def parts_of(view: ModelView, pruner: WidthPruner) -> tuple[Part, ...]:
    """What of the family's layers can be made narrower by a pruner. Raises FamilyError for nothing."""
    mixed = view.experts is not None
    parts: tuple[Part, ...] = ("attention", "mlp") if view.family.prunable_heads else ("mlp",)
    scored = tuple(part for part in (("experts",) if mixed else parts) if part in pruner.parts)
    if not scored:
        raise FamilyError(f"'{pruner.name}' scores no part of a tiny {view.config.model_type}; name other families")
    return scored


def tensors(group: UnitGroup) -> dict[str, Tensor]:
    """All tensors of a group by name."""
    return dict(_named(group))


def _named(group: UnitGroup) -> Iterator[tuple[str, Tensor]]:
    for weight in group.weights:
        yield from ((f"{part} of {weight.name}", value) for part, value in _parts(weight).items())
    if group.inputs is not None:
        for part in ("mean", "mean_absolute", "mean_square"):
            yield f"inputs.{part}", getattr(group.inputs, part)


def _copied(weight: CoupledWeight) -> CoupledWeight:
    kept = copies(_parts(weight))
    gradients = kept.get("gradient"), kept.get("squared_gradient")
    return replace(weight, weight=kept["weight"], gradient=gradients[0], squared_gradient=gradients[1])


def _parts(weight: CoupledWeight) -> dict[str, Tensor]:
    values = {part: getattr(weight, part) for part in ("weight", "gradient", "squared_gradient")}
    return {part: value for part, value in values.items() if value is not None}
