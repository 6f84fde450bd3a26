"""What every recovery must do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from swm.errors import RecoveryError
from swm.interfaces.recovery import Recovery
from swm.interfaces.stage import Stage
from swm.model.surgery import merge_layers
from swm.model.view import ModelView
from swm.testing.checks import Parameters
from swm.testing.expect import changed, copies, expect, works, wrong
from swm.testing.model_checks import ModelChecks
from swm.testing.trial import DOCUMENTS, state_of


class RecoveryChecks(ModelChecks):
    """Checks of a recovery, on models without their layer 4.

    One that trains (`swm.TrainedRecovery`) does four steps on four pieces of text, unless its parameters say otherwise.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "data": list(DOCUMENTS),
        "steps": 4,
        "batch": 2,
        "cutoff": 16,
        "learning_rate": 5e-3,
        "warm_up": 0,
    }

    def stage(self, strategy: Recovery) -> Stage:
        return self.stage_of(Recovery.kind, recovery=strategy)

    def begin(self, view: ModelView) -> None:
        merge_layers(view, [3, 4], 3, view.state(3))

    def test_a_plain_model_is_left(self, given: Parameters, family: str) -> None:
        trial = self.trial(given, family)
        before = looks(trial.fresh())
        with works(f"training a tiny {family} with {self.who(given)}"):
            view = trial.again
        for what, value in looks(view).items():
            odd = _difference(before[what], value)
            expect(not odd, f"{self.who(given)} leaves other {what} in a tiny {family}: {odd}")
        finite = all(bool(torch.isfinite(value).all()) for value in state_of(view).values())
        expect(finite, f"{self.who(given)} leaves weights in a tiny {family} that are not finite")

    def test_the_same_seed_gives_the_same_bytes(self, given: Parameters, family: str) -> None:
        trial, view, _ = self.done(given, family)
        names = changed(state_of(view), state_of(trial.again))
        expect(not names, f"{self.who(given)} with one seed gives two results on a tiny {family}: {names}")

    def test_what_it_reports_is_a_mapping(self, given: Parameters) -> None:
        trial = self.trial(given, self.families[0])
        with works(f"training with {self.who(given)}"):
            facts = self._recover(trial, trial.fresh())
        expect(isinstance(facts, dict), f"{self.who(given)} returns a {type(facts).__name__}; it must be a dict")

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_loss_that_is_no_number_gives_the_model_back(
        self, given: Parameters, value: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trial = self.trial(given, self.families[0])
        view = trial.fresh()
        before, look = copies(state_of(view)), looks(view)
        calls: list[int] = []
        forward = view.model.forward

        def fails(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            output = forward(*args, **kwargs)
            output.logits = output.logits * (value if len(calls) > 3 else 1)
            return output

        monkeypatch.setattr(view.model, "forward", fails)
        try:
            self._recover(trial, view)
        except RecoveryError:
            monkeypatch.undo()
        else:
            if len(calls) > 3:
                wrong(f"{self.who(given)} goes on when the logits are {value}; it must raise RecoveryError")
            return
        names = changed(before, state_of(view))
        expect(not names, f"{self.who(given)} raises RecoveryError and leaves other weights: {names}")
        for what, now in looks(view).items():
            odd = _difference(look[what], now)
            expect(not odd, f"{self.who(given)} raises RecoveryError and leaves other {what}: {odd}")

    def _recover(self, trial: Any, view: ModelView) -> Any:
        torch.manual_seed(0)
        context = trial.context(view)
        return trial.stage.recovery.recover(context.recovery(trial.stage.recovery))


def looks(view: ModelView) -> dict[str, dict[str, Any]]:
    """All that a recovery may not change."""
    modules = dict(view.model.named_modules())
    return {
        "modules": {name: type(module) for name, module in modules.items()},
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "hooks": {name: len(m._forward_hooks) + len(m._forward_pre_hooks) for name, m in modules.items()},
        "training modes": {name: module.training for name, module in modules.items()},
        "parameters": {n: (p.shape, p.dtype, p.requires_grad, p.grad) for n, p in view.model.named_parameters()},
        "config": view.config.to_dict(),
    }


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    odd = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    return ", ".join(f"{key or 'the model'} ({before.get(key)} became {after.get(key)})" for key in odd[:3])
