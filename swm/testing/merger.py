"""What every layer merger must do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from swm.errors import PlanError, quoted
from swm.interfaces.depth import DepthContext, DepthProposal, DepthPruner
from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.interfaces.stage import Stage
from swm.model.state import State
from swm.model.windows import Window
from swm.testing.checks import Parameters
from swm.testing.expect import changed, copies, expect, wrong
from swm.testing.model_checks import ModelChecks

# What layers of several families have: grouped heads, biases, norms inside a head.
SHAPES = {
    "attention.q.weight": (8, 6),
    "attention.q.bias": (8,),
    "attention.k.weight": (4, 6),
    "mlp.down.weight": (6, 12),
    "mlp.down.bias": (6,),
    "norms.input_layernorm.weight": (6,),
    "norms.attention.head.weight": (2,),
}


@dataclass(frozen=True)
class FixedWindows(DepthPruner):
    """A window of two layers and one of three."""

    name: ClassVar[str] = "given"

    def uses_target(self) -> bool:
        return False

    def propose(self, context: DepthContext) -> DepthProposal:
        return DepthProposal([Window(0, 1), Window(3, 5)])


class MergerChecks(ModelChecks):
    """Checks of a layer merger."""

    def stage(self, strategy: LayerMerger) -> Stage:
        return self.stage_of(DepthPruner.kind, pruner=FixedWindows(), merger=strategy)

    def test_it_gives_a_layer_of_the_same_form(self, given: Parameters) -> None:
        merger = self.build(given)
        if merger.needs_activations:
            return
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            for count in (2, 5):
                merged = self._merge(given, merger, [layer(i, dtype) for i in range(count)])
                form = {key: (tuple(value.shape), value.dtype) for key, value in merged.items()}
                wanted = {key: (shape, dtype) for key, shape in SHAPES.items()}
                odd = sorted(k for k in form.keys() | wanted.keys() if form.get(k) != wanted.get(k))
                returned = {key: form.get(key) for key in odd}
                expect(
                    not odd,
                    f"{self.who(given)} of {count} layers in {dtype} must keep keys, shapes, dtypes: {returned}",
                )

    def test_the_layers_it_reads_are_never_written(self, given: Parameters) -> None:
        merger = self.build(given)
        if merger.needs_activations:
            return
        states = [layer(i) for i in range(4)]
        before = [copies(state) for state in states]
        self._merge(given, merger, states)
        names = [changed(a, b) for a, b in zip(before, states, strict=True)]
        expect(
            not any(names), f"{self.who(given)} writes to the layers that it is given: {', '.join(filter(None, names))}"
        )

    def test_it_is_the_same_twice(self, given: Parameters) -> None:
        merger = self.build(given)
        if merger.needs_activations:
            return
        first, second = (self._merge(given, merger, [layer(i) for i in range(3)]) for _ in range(2))
        names = changed(first, second)
        expect(not names, f"{self.who(given)} gives other numbers the second time: {names}")

    def test_the_survivor_is_an_end_of_the_window(self, given: Parameters) -> None:
        merger = self.build(given)
        for keep in (None, "bottom", "top"):
            end = merger.survivor(keep)
            expect(
                end in ("bottom", "top"),
                f"{self.who(given)}: survivor({quoted(keep)}) is {quoted(end)}; 'bottom' or 'top'",
            )

    def _merge(self, given: Parameters, merger: LayerMerger, states: list[State]) -> State:
        """Merged, without activations, which it says it does not need."""
        try:
            return merger.merge(LayerWindow(states))
        except (AttributeError, TypeError, PlanError) as error:
            if "NoneType" in str(error) or "needs activations" in str(error):
                wrong(f"{self.who(given)} reads activations; it must say needs_activations = True ({error})")
            raise


def layer(seed: int, dtype: torch.dtype = torch.float32) -> State:
    """Random parameters under canonical names."""
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator).to(dtype) for key, shape in SHAPES.items()}
