"""The conformance kit catches what a strategy must not do, and says what is wrong."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar

import pytest
import torch
from pydantic import Field
from torch import Tensor

import swm
from swm.errors import PluginError
from swm.interfaces.stage import StagePlan
from swm.testing import FAMILIES, checks_for
from swm.testing.checks import Checks


def faults(checks: type[Checks], only: str = "") -> Iterator[tuple[str, str]]:
    """The checks that fail, each with what it says; those whose name holds `only`."""
    for name, method in inspect.getmembers(checks, inspect.isfunction):
        if not name.startswith("test_") or only not in name:
            continue
        for arguments in calls(checks, method):
            try:
                method(checks(), **arguments)
            except pytest.fail.Exception as failure:
                yield name, str(failure)
            except pytest.skip.Exception:
                pass


def calls(checks: type[Checks], method: Any) -> Iterator[dict[str, Any]]:
    """The arguments of each call that pytest would make."""
    given: list[list[dict[str, Any]]] = []

    def parametrize(names: Any, values: Any, ids: Any = None) -> None:
        names = (names,) if isinstance(names, str) else names
        given.append([dict(zip(names, v if len(names) > 1 else (v,), strict=True)) for v in values])

    checks().pytest_generate_tests(
        SimpleNamespace(fixturenames=list(inspect.signature(method).parameters), parametrize=parametrize)  # type: ignore[arg-type]
    )
    for mark in getattr(method, "pytestmark", []):
        parametrize(*mark.args)
    for parts in product(*given):
        arguments = {key: value for part in parts for key, value in part.items()}
        if "monkeypatch" in inspect.signature(method).parameters:
            with pytest.MonkeyPatch.context() as patch:
                yield {**arguments, "monkeypatch": patch}
        else:
            yield arguments


class Metric(swm.SampleMetric):
    """What the faulty metrics begin with: one minus the relative error of a sample."""

    name: ClassVar[str] = "planted"

    def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            reference, candidate = reference.where(mask[..., None], 0), candidate.where(mask[..., None], 0)
        error = (reference.double() - candidate.double()).flatten(1).norm(dim=1)
        return 1 - error / reference.double().flatten(1).norm(dim=1)


@dataclass(frozen=True)
class Sound(Metric):
    """A metric without a fault."""


@dataclass(frozen=True)
class Wavering(Metric):
    """Not the same twice."""

    def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().per_sample(reference, candidate, mask) - 1e-3 * torch.rand(len(reference))


@dataclass(frozen=True)
class ByBatch(Metric):
    """Divides by what is in the batch."""

    def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        values = super().per_sample(reference, candidate, mask)
        return 1 - (1 - values) / (1 + (reference - candidate).square().mean() / reference.square().mean())


@dataclass(frozen=True)
class Padded(Metric):
    """Reads the padding."""

    def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().per_sample(reference, candidate)


@dataclass(frozen=True)
class Writing(Metric):
    """Centres its input in place."""

    def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        candidate -= candidate.mean()
        return super().per_sample(reference, candidate, mask)


@dataclass(frozen=True)
class Lopsided(Metric):
    """Promises symmetry."""

    symmetric: ClassVar[bool] = True


@dataclass(frozen=True)
class Tensorial(Metric):
    """Returns a tensor."""

    def reduce(self, values: Tensor) -> float:
        return values.mean()  # type: ignore[return-value]


@dataclass(frozen=True)
class Unbounded(Metric):
    """One for nothing in particular."""

    def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        return (reference * candidate).flatten(1).double().sum(dim=1)


@dataclass
class Thawed(Metric):
    """Can be changed."""


@dataclass(frozen=True)
class Shouting(Metric):
    """Has a name that no recipe of ours has."""

    name: ClassVar[str] = "Planted_Metric"


@dataclass(frozen=True)
class Careless(Metric):
    """Checks its parameter in a way that users never get to read."""

    power: Annotated[float, Field(ge=0)] = 1.0

    @classmethod
    def complete(cls, values: dict[str, Any], build: Any) -> dict[str, Any]:
        {1.0: "one"}[values.get("power", 1.0)]
        return values


@dataclass(frozen=True)
class Anything(Metric):
    """Has a range that it takes back."""

    power: Any = 1.0
    bound: Annotated[float, Field(ge=0)] = 1.0

    @classmethod
    def complete(cls, values: dict[str, Any], build: Any) -> dict[str, Any]:
        values.pop("bound", None)
        return values


METRICS: Mapping[type[Any], tuple[str, str]] = {
    Wavering: ("same_twice", r"Wavering\(\) gives -?[\d.]+ and then -?[\d.]+ for the same activations"),
    ByBatch: ("batches", r"depends on batches: .* of \d samples, .* by 1"),
    Padded: ("padding_holds", r"depends on padding: .* where padding holds"),
    Writing: ("not_written", "writes to the activations"),
    Lopsided: ("symmetric", "says that it is symmetric and gives .* one way, .* the other"),
    Tensorial: ("finite_number", "gives a Tensor; it must be a float"),
    Unbounded: ("equal_activations", "of equal activations is .*; it must be 1"),
    Thawed: ("frozen", r"must be frozen: @dataclass\(frozen=True\)"),
    Shouting: ("kebab", "'Planted_Metric' must be in kebab-case"),
    Careless: ("bad_parameters", r"Careless with power=.* ends in (KeyError|TypeError): .*; raise ValueError"),
    Anything: ("bad_parameters", r"Anything with bound=-1.0 is not refused"),
}


@pytest.mark.parametrize("cls", METRICS, ids=lambda cls: cls.__name__)
def test_a_faulty_metric_is_caught(cls: type[Any]) -> None:
    only, says = METRICS[cls]
    found = list(faults(checks_for(cls), only))
    assert any(re.search(says, message) for _, message in found), found


def test_a_sound_metric_passes_everything() -> None:
    checks = checks_for(Sound, families=("llama", "gpt2"), fresh_process=False)
    assert list(faults(checks)) == []


@dataclass(frozen=True)
class Scribbler(swm.LayerMerger):
    """Adds the layers up in the lowest one."""

    name: ClassVar[str] = "planted"

    def merge(self, window: swm.LayerWindow) -> Mapping[str, Tensor]:
        for key, value in window.states[0].items():
            value += window.states[1][key]
        return window.states[0]


@dataclass(frozen=True)
class Upcaster(swm.LayerMerger):
    """Returns float64."""

    name: ClassVar[str] = "planted"

    def merge(self, window: swm.LayerWindow) -> Mapping[str, Tensor]:
        return {key: value.double() for key, value in window.states[0].items()}


@dataclass(frozen=True)
class Undeclared(swm.LayerMerger):
    """Reads activations and does not say so."""

    name: ClassVar[str] = "planted"

    def merge(self, window: swm.LayerWindow) -> Mapping[str, Tensor]:
        return {key: value * window.entering().mean() for key, value in window.states[0].items()}  # type: ignore[misc]


@dataclass(frozen=True)
class Requiring(swm.LayerMerger):
    """Requires activations and does not say so."""

    name: ClassVar[str] = "planted"

    def merge(self, window: swm.LayerWindow) -> Mapping[str, Tensor]:
        scale = window.required_activations().entering().mean()
        return {key: value * scale for key, value in window.states[0].items()}


@dataclass(frozen=True)
class Drawn(swm.LayerMerger):
    """Draws a layer of the window without a seed."""

    name: ClassVar[str] = "planted"

    def merge(self, window: swm.LayerWindow) -> Mapping[str, Tensor]:
        return {key: value + 1e-3 * torch.rand(()) for key, value in window.states[0].items()}


@dataclass(frozen=True)
class Deaf(swm.DepthPruner):
    """Always removes one layer."""

    name: ClassVar[str] = "planted"

    def propose(self, context: swm.DepthContext) -> swm.DepthProposal:
        return swm.DepthProposal([swm.Window(1, 2)])


@dataclass(frozen=True)
class Overlapping(swm.DepthPruner):
    """Merges a layer twice."""

    name: ClassVar[str] = "planted"

    def propose(self, context: swm.DepthContext) -> swm.DepthProposal:
        return swm.DepthProposal([swm.Window(1, 2), swm.Window(2, 3)])


@dataclass(frozen=True)
class Secretive(swm.DepthPruner):
    """Compares layers and does not say so."""

    name: ClassVar[str] = "planted"

    def propose(self, context: swm.DepthContext) -> swm.DepthProposal:
        context.compare(0, 1)
        return swm.DepthProposal([swm.Window(0, context.target or 1)])


@dataclass(frozen=True)
class Seedless(swm.DepthPruner):
    """Draws its window without the seed."""

    name: ClassVar[str] = "planted"

    def propose(self, context: swm.DepthContext) -> swm.DepthProposal:
        assert context.target is not None
        first = int(torch.randint(context.layers - context.target, ()))
        return swm.DepthProposal([swm.Window(first, first + context.target)], {"drawn": torch.tensor(first)})


@dataclass(frozen=True)
class Short(swm.WidthPruner):
    """Forgets the last unit."""

    name: ClassVar[str] = "planted"

    def score(self, group: swm.UnitGroup) -> Tensor:
        return group.per_unit(group.reader.weight.norm(dim=1))[:-1]


@dataclass(frozen=True)
class Needy(swm.WidthPruner):
    """Reads inputs that it did not ask for."""

    name: ClassVar[str] = "planted"

    def score(self, group: swm.UnitGroup) -> Tensor:
        return group.per_unit(group.inputs.mean_square)  # type: ignore[union-attr]


@dataclass(frozen=True)
class Remembering(swm.WidthPruner):
    """Adds the layer's number in the order of the calls."""

    name: ClassVar[str] = "planted"
    seen: ClassVar[list[int]] = []

    def score(self, group: swm.UnitGroup) -> Tensor:
        self.seen.append(1)
        return group.per_unit(group.reader.weight.norm(dim=1)) + len(self.seen)


@dataclass(frozen=True)
class Halving(swm.WidthPruner):
    """Halves the weights in place."""

    name: ClassVar[str] = "planted"

    def score(self, group: swm.UnitGroup) -> Tensor:
        group.reader.weight.mul_(0.5)
        return group.per_unit(group.reader.weight.norm(dim=1))


@dataclass(frozen=True)
class Leftover(swm.Recovery):
    """Leaves an adapter, a hook, and training mode behind."""

    name: ClassVar[str] = "planted"

    def recover(self, context: swm.RecoveryContext) -> dict[str, Any]:
        context.view.model.train()
        return {}


@dataclass(frozen=True)
class Unseeded(swm.Recovery):
    """Adds noise from the operating system."""

    name: ClassVar[str] = "planted"

    def recover(self, context: swm.RecoveryContext) -> dict[str, Any]:
        generator = torch.Generator()
        generator.seed()
        norm = context.view.tail_modules()[0].weight
        norm.data += 1e-3 * torch.randn(norm.shape, generator=generator)  # type: ignore[operator,arg-type]
        return {"losses": []}


@dataclass(frozen=True)
class Reckless(swm.Recovery):
    """Trains on whatever the model says."""

    name: ClassVar[str] = "planted"

    def recover(self, context: swm.RecoveryContext) -> dict[str, Any]:
        ids = torch.arange(3, 12)[None]
        for _ in range(5):
            loss = context.view.model(input_ids=ids, labels=ids).loss.detach()
            for parameter in context.view.model.parameters():
                parameter.data.mul_(1 - 1e-3 * loss)
        return {"losses": []}


@dataclass(frozen=True)
class Nudge(swm.Step):
    """Adds to the final norm."""

    name: ClassVar[str] = "planted-nudge"

    by: float

    def apply(self, view: swm.ModelView, tensors: Mapping[str, Tensor]) -> None:
        view.tail_modules()[0].weight.data += self.by  # type: ignore[operator,union-attr]

    def describe(self) -> str:
        return f"add {self.by}\nto the final norm"


@dataclass(frozen=True)
class Rash(swm.Stage):
    """Changes the model while it plans."""

    name: ClassVar[str] = "planted"

    def plan(self, context: swm.StageContext) -> StagePlan:
        step = Nudge(0.5)
        step.apply(context.view, {})
        return swm.StagePlan([step])


@dataclass(frozen=True)
class Hidden(swm.Stage):
    """Changes the model by no step."""

    name: ClassVar[str] = "planted"

    def plan(self, context: swm.StageContext) -> StagePlan:
        return swm.StagePlan([])

    def perform(self, plan: StagePlan, context: swm.StageContext) -> Mapping[str, Any]:
        Nudge(0.5).apply(context.view, {})
        return {}


@dataclass(frozen=True)
class Wandering(swm.TextSource):
    """Gives other text every time."""

    name: ClassVar[str] = "planted"

    def documents(self, purpose: Any) -> list[str]:
        return [f"document {torch.rand(())}"]


@dataclass(frozen=True)
class Leaking(swm.TextSource):
    """Calibrates on what it is judged by."""

    name: ClassVar[str] = "planted"

    def documents(self, purpose: Any) -> list[str]:
        return ["the same"]

    def separates(self) -> bool:
        return True


OTHERS: Mapping[type[Any], tuple[str, str]] = {
    Scribbler: ("never_written", "writes to the layers that it is given: attention.k.weight"),
    Upcaster: ("same_form", r"must keep keys, shapes, dtypes: .*float64"),
    Undeclared: ("same_form", "must say needs_activations = True"),
    Requiring: ("same_form", "must say needs_activations = True"),
    Drawn: ("same_twice", "gives other numbers the second time: attention.k.weight"),
    Deaf: ("as_many_layers", "is told to remove 2 of 6 layers and removes 1: 1-2"),
    Overlapping: ("as_many_layers", "windows 1-2 and 2-3 overlap"),
    Secretive: ("what_it_asks_for", "must say compares_layers = True"),
    Seedless: ("same_model_and_text", "in two ways: .*; draw with the given seed only"),
    Short: ("one_finite_number", r"gives \(1,\) for the 2 attention units of layer \d; it must be \(2,\)"),
    Needy: ("one_finite_number", r"reads what its needs\(\) does not name"),
    Remembering: ("own_layer", "by what it scored before"),
    Halving: ("never_written", "writes to the weight of mlp.down.weight|writes to the weight of attention.o.weight"),
    Leftover: ("plain_model", r"leaves other training modes .*\(False became True\)"),
    Unseeded: ("same_seed", "with one seed gives two results on a tiny llama: model.norm.weight"),
    Reckless: ("no_number", "goes on when the logits are nan; it must raise RecoveryError"),
    Rash: ("planning_does_not", "writes to the model's tensors while it plans: model.norm.weight"),
    Hidden: ("steps_do_all", "changes the model without a step in its plan"),
    Wandering: ("same_documents", "gives other documents for calibration the second time"),
    Leaking: ("two_purposes", "gives 1 documents for calibration and for evaluation"),
}


@pytest.mark.parametrize("cls", OTHERS, ids=lambda cls: cls.__name__)
def test_every_other_fault_is_caught(cls: type[Any]) -> None:
    only, says = OTHERS[cls]
    found = list(faults(checks_for(cls, families=("llama",), also=(Nudge,), fresh_process=False), only))
    assert any(re.search(says, message) for _, message in found), found


def test_steps_are_registered_and_told_in_one_line() -> None:
    @dataclass(frozen=True)
    class Nudging(swm.Stage):
        """Adds to the final norm."""

        name: ClassVar[str] = "planted"

        def plan(self, context: swm.StageContext) -> StagePlan:
            return swm.StagePlan([Nudge(0.5)])

    unknown = checks_for(Nudging, families=("llama",), fresh_process=False)
    [(_, message)] = faults(unknown, "steps_that_are_registered")
    assert "plans a step 'planted-nudge' that is not registered: register(YourStep)" in message
    known = checks_for(Nudging, families=("llama",), also=(Nudge,), fresh_process=False)
    [(_, message)] = faults(known, "plan_is_text")
    assert "must each be told in one line" in message


def test_a_plan_that_json_cannot_hold_is_caught() -> None:
    [(_, message)] = faults(checks_for(Seedless, families=("llama",), fresh_process=False), "plan_is_text")
    assert "cannot be written as JSON and YAML" in message


def test_a_family_that_is_refused_is_skipped_unless_it_is_the_first() -> None:
    from swm.mergers.linear import Linear

    first = checks_for(Linear, families=("gemma2",), fresh_process=False)
    [(_, message)] = faults(first, "planning_does_not")
    assert message.startswith("planning with Linear() on a tiny gemma2 fails: ")
    other = checks_for(Linear, families=("llama", "gemma2"), fresh_process=False)
    assert list(faults(other, "planning_does_not")) == []


def test_variants_and_families_are_all_tried() -> None:
    checks = checks_for(Sound, {}, {})
    of_families = list(calls(checks, checks.test_it_is_finite_on_every_family))  # type: ignore[attr-defined]
    assert [call["family"] for call in of_families] == [*FAMILIES, FAMILIES[0]]


@pytest.mark.parametrize("what", [7, int, swm.Step, Metric], ids=str)
def test_there_are_no_checks_for_other_things(what: Any) -> None:
    kinds = "a DepthPruner, Executor, ExpertMerger, LayerMerger"
    with pytest.raises(PluginError, match=f"there are checks for dataclasses that are {kinds}"):
        checks_for(what)


def test_a_name_that_is_taken_is_told() -> None:
    @dataclass(frozen=True)
    class Cosine(Metric):
        """Another one."""

        name: ClassVar[str] = "cosine"

    [(_, message)] = faults(checks_for(Cosine), "registered")
    assert message == "similarity 'cosine' is already the name of swm.similarity.cosine.Cosine"


def test_without_pytest_the_kit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pytest" else real(name, *rest)
    )
    monkeypatch.delitem(sys.modules, "swm.testing")
    with pytest.raises(
        ImportError, match=r"swm\.testing needs pytest, which swm itself does not: pip install 'swm-pruning\[kit\]'"
    ):
        importlib.import_module("swm.testing")
