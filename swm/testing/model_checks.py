"""Checks of a strategy at work on a model: before, while and after the model changes."""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from swm.checkpoint import saving as checkpoint
from swm.errors import SwmError
from swm.files import yaml_file as yamlfile
from swm.interfaces.stage import Stage, StagePlan
from swm.model.view import ModelView
from swm.plugins.registry import require_interface
from swm.testing.checks import Checks, Parameters
from swm.testing.expect import changed, expect, works, wrong
from swm.testing.tiny import tiny_ids
from swm.testing.trial import Trial, state_of


class ModelChecks(Checks):
    """Checks of a strategy at work on tiny models of every family."""

    fresh_process: ClassVar[bool]
    """Whether the result on the first family is also loaded in a fresh process, which takes seconds."""
    trials: ClassVar[dict[tuple[str, str], Trial]]
    """What was tried so far, so that each test looks at the same run."""

    def stage(self, strategy: Any) -> Stage:
        """A stage that uses the strategy."""
        raise NotImplementedError

    def begin(self, view: ModelView) -> None:
        """Change the fresh model before the stage sees it."""

    def stage_of(self, kind: str, **values: Any) -> Stage:
        """The registered stage for strategies of a kind: of that name, or one that holds it."""
        for entry in self.registry.entries():
            cls: Any = entry.strategy
            if cls.kind == Stage.kind and kind in (cls.name, cls.holds):
                return require_interface(Stage, self.registry.build_named(Stage.kind, cls.name, values))
        raise LookupError(f"no stage is registered for the kind '{kind}'")

    def trial(self, given: Parameters, family: str) -> Trial:
        """The strategy with these parameters on a family, planned. A clear refusal of a family is a skip."""
        key = repr(given), family
        if key not in self.trials:
            strategy = self.build(given)
            make = functools.partial(self._make, strategy)
            self.trials[key] = Trial(make, family, self.registry, self.begin)
        trial = self.trials[key]
        with works(f"planning with {self.who(given)} on a tiny {family}", family != self.families[0]):
            trial.planned  # noqa: B018  planned here, so that a refusal is reported here
        return trial

    def _make(self, strategy: Any, view: ModelView) -> Stage:
        return self.stage(strategy)

    def done(self, given: Parameters, family: str) -> tuple[Trial, ModelView, Mapping[str, Any]]:
        """The trial, the changed model, and what the report says of it."""
        trial = self.trial(given, family)
        with works(f"changing a tiny {family} with {self.who(given)}"):
            return trial, *trial.done

    def test_planning_does_not_change_the_model(self, given: Parameters, family: str) -> None:
        names = changed(*self.trial(given, family).planning)
        expect(not names, f"{self.who(given)} writes to the model's tensors while it plans: {names} of a tiny {family}")

    def test_the_same_model_and_text_give_the_same_plan(self, given: Parameters, family: str) -> None:
        trial = self.trial(given, family)
        says = differs(trial.planned, trial.plan_again())
        expect(not says, f"{self.who(given)} plans a tiny {family} in two ways: {says}; draw with the given seed only")

    def test_the_batch_size_does_not_matter(self, given: Parameters, family: str) -> None:
        trial = self.trial(given, family)
        says = differs(trial.planned, trial.plan_again(tokens_per_batch=1), close=True)
        expect(not says, f"{self.who(given)} plans a tiny {family} otherwise with one sample in a batch: {says}")

    def test_the_plan_is_text_and_replays_to_the_same_bytes(self, given: Parameters, family: str) -> None:
        trial, view, facts = self.done(given, family)
        try:
            data = json.loads(json.dumps(trial.plan.to_data()))
            json.dumps(dict(facts))
            read, _ = yamlfile.parse(yamlfile.dump(data))
        except (TypeError, ValueError, SwmError) as error:
            wrong(f"the plan of {self.who(given)} cannot be written as JSON and YAML: {error}")
        expect(json.dumps(read) == json.dumps(data), f"the plan of {self.who(given)} is another one once it was YAML")
        lines = [*trial.plan.lines(), *(step.describe() for step in trial.planned.steps)]
        broken = [line for line in lines if not line.strip() or "\n" in line]
        expect(not broken, f"steps of {self.who(given)} must each be told in one line, found {broken}")
        if any(step.needs_data for step in trial.planned.steps):
            return
        with works(f"replaying the plan of {self.who(given)} on a tiny {family}"):
            names = changed(state_of(view), state_of(trial.replayed()))
        expect(not names, f"the plan of {self.who(given)} replays to other bytes on a tiny {family}: {names}")

    def test_it_loads_and_generates_as_it_was_in_memory(self, given: Parameters, family: str) -> None:
        trial, _, _ = self.done(given, family)
        who = f"{self.who(given)} on a tiny {family}"
        with works(f"saving and loading what is left by {who}"):
            before, after = trial.before_saving, trial.probe(trial.reloaded())
        off = float((before.logits - after.logits).abs().max())
        expect(
            off <= before.tolerance, f"the logits after {who} are off by {off:g} once the model was saved and loaded"
        )
        same = torch.equal(before.continued, after.continued)
        expect(same, f"generate() gives other tokens after {who}, once the model was saved and loaded")
        if self.fresh_process and family == self.families[0] and given is self.variants[0]:
            folder, model, code = trial.saved
            with works(f"loading what is left by {who} in a fresh process"):
                checkpoint.verify(folder, before, model, code)

    def test_adapters_can_be_trained_on_it(self, given: Parameters, family: str) -> None:
        trial, _, _ = self.done(given, family)
        who = f"{self.who(given)} on a tiny {family}"
        with works(f"saving and loading what is left by {who}"):
            model = trial.reloaded()
        try:
            loss, moved = lora_step(model)
        except Exception as error:  # whatever peft or a forward pass raises
            wrong(f"LoRA does not go onto what is left by {who}: {type(error).__name__}: {error}")
        expect(loss == loss and moved > 0, f"a LoRA step after {who} has loss {loss} and changes {moved} adapters")


def lora_step(model: Any) -> tuple[float, int]:
    """Attach an adapter to every projection and train one step: the loss, and how many adapters changed."""
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        # peft reads what transformers deprecates.
        warnings.simplefilter("ignore")
        wrapped: Any = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
        trained = [p for p in wrapped.parameters() if p.requires_grad]
        before = [p.detach().clone() for p in trained]
        optimizer = torch.optim.SGD(trained, lr=1.0)
        ids = tiny_ids(2, model.config.vocab_size)
        with torch.enable_grad():
            loss: Tensor = wrapped(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
        optimizer.step()
    return float(loss.detach()), sum(not torch.equal(p, q) for p, q in zip(trained, before, strict=True))


def differs(one: StagePlan, other: StagePlan, close: bool = False) -> str:
    """In what two plans differ, in words; tensors and fractions may be `close` instead of equal."""
    mine, theirs = ([{step.name: step.to_plan()} for step in plan.steps] for plan in (one, other))
    for a, b in zip(mine, theirs, strict=False):
        if a != b and not (close and _alike(a, b)):
            return f"{a} and {b}"
    if len(mine) != len(theirs):
        return f"{len(mine)} steps and {len(theirs)}"
    if {i: set(t) for i, t in one.tensors.items()} != {i: set(t) for i, t in other.tensors.items()}:
        return "fitted tensors of other names"
    for i, tensors in one.tensors.items():
        for key, value in tensors.items():
            second = other.tensors[i][key]
            same = torch.allclose(value, second, rtol=1e-3, atol=1e-4) if close else torch.equal(value, second)
            if not same:
                return f"the fitted {key} of step {i}"
    return ""


def _alike(one: Any, other: Any) -> bool:
    """Whether two values of a plan are the same but for the last digits of fractions."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-4)
    return bool(one == other)
