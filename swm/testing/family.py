"""What every row of a model family must do."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from swm.checkpoint import saving as checkpoint
from swm.checkpoint.export import export
from swm.checkpoint.saving import probe
from swm.derivation.proof import Proof
from swm.derivation.self_test import prove_row
from swm.derivation.small_model import small_model
from swm.errors import FamilyError, PluginError, SwmError
from swm.loading.empty_model import empty_model
from swm.model.families import ModelFamily
from swm.model.surgery import keep_layers
from swm.model.units import READERS, Block
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.plugins.loading import load_plugins
from swm.plugins.registry import Registry
from swm.testing.checks import Parameters, as_arguments
from swm.testing.expect import expect, works, wrong
from swm.testing.tiny import HIDDEN, LAYERS, SPECIAL, VOCABULARY, tiny_ids
from swm.testing.trial import load_saved

SHAPE = {"num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "intermediate_size": 2 * HIDDEN, "num_attention_heads": 4}


class FamilyChecks:
    """Checks of a row on random models of its first model type; `variants` are values of their configs."""

    row: ClassVar[ModelFamily]
    variants: ClassVar[Sequence[Parameters]]
    fresh_process: ClassVar[bool]
    proofs: ClassVar[dict[str, Proof]]
    """What the test by numbers said, so that each test looks at the same."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Gives tests the values of a config."""
        if "given" in metafunc.fixturenames:
            ids = [as_arguments(variant) or "defaults" for variant in self.variants]
            metafunc.parametrize("given", self.variants, ids=ids)

    def test_it_can_be_registered(self) -> None:
        try:
            Registry().register(self.row, "the plugin")
        except PluginError as error:
            wrong(str(error))
        expect(bool(self.row.model_types), f"family row '{self.row.name}' names no model_types")
        names = [row.name for row in load_plugins().registry.families if row != self.row]
        expect(self.row.name not in names, f"there is a family row '{self.row.name}' already; choose another name")

    def test_it_is_right_about_everything_that_it_says(self, given: Parameters) -> None:
        proof = self._proof(given)
        expect(not proof.failure(), f"{self._who(given)} is wrong about the layers: {proof.failure()}")
        for part, why in proof.disproven(self.row).items():
            wrong(f"{self._who(given)} did not pass its test for {part}: {why}")

    def test_it_lets_layers_go(self, given: Parameters) -> None:
        verdict = self._proof(given).verdicts["fewer layers"]
        expect(verdict.state == "proven", f"{self._who(given)}: no layer can go: {verdict.reason}")

    def test_a_model_without_a_layer_is_saved_and_loads(self, given: Parameters) -> None:
        def cut(view: ModelView) -> None:
            keep_layers(view, range(len(view.layers) - 1))

        self._saved_and_loaded(given, cut, "without its last layer")

    @pytest.mark.parametrize("part", ["attention", "mlp"])
    def test_a_model_with_half_of_a_part_is_saved_and_loads(self, given: Parameters, part: Block) -> None:
        claimed = READERS[part] in self.row.projections and (part == "mlp" or self.row.prunable_heads)
        if not claimed:
            pytest.skip(f"the row says that no units of the {part} can go")

        def cut(view: ModelView) -> None:
            for position in range(len(view.layers)):
                keep_units(view, position, part, range(max(1, view.layer(position).units(part) // 2)))

        self._saved_and_loaded(given, cut, f"with half of its {part}", part)

    def _who(self, given: Parameters) -> str:
        return f"family row '{self.row.name}'" + (f" with {as_arguments(given)}" if given else "")

    def _model(self, given: Parameters) -> PreTrainedModel:
        """A random model, the same at every call; norms and biases are random too."""
        values = {"vocab_size": VOCABULARY, **SPECIAL, **SHAPE, **given}
        try:
            config = AutoConfig.for_model(self.row.model_types[0], **values)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.add_(0.1 * torch.randn_like(parameter))
        except Exception as error:  # whatever a class raises for a config that it does not take
            wrong(f"no model of {self._who(given)} can be made; give checks_for other values of its config: {error}")
        made: PreTrainedModel = model.eval()
        return made

    def _proof(self, given: Parameters) -> Proof:
        key = repr(given)
        try:
            if key not in self.proofs:
                empty = empty_model(self._model(given).config)
                self.proofs[key] = prove_row(small_model(empty, self.row.layers), self.row)
            return self.proofs[key]
        except (FamilyError, AttributeError) as error:
            wrong(f"{self._who(given)} says that the layers are at '{self.row.layers}': {error}")

    def _saved_and_loaded(
        self, given: Parameters, cut: Callable[[ModelView], None], what: str, part: Block | None = None
    ) -> None:
        """Cut a model, save it, load it with transformers, and compare scores and generated tokens.

        Args:
            given: Values of the config.
            cut: What is done to the model.
            what: What the model is then, in words.
            part: The part that loses units, if any.
        """
        who, view = f"a model of {self._who(given)} {what}", ModelView(self._model(given), self.row)
        with works(f"cutting {who}"), torch.no_grad():
            cut(view)
        before = probe(view.model, tiny_ids(2))
        with tempfile.TemporaryDirectory(prefix="swm-") as name:
            folder = Path(name) / "model"
            folder.mkdir()
            try:
                exported = export(view, "custom" if part and self.row.only_custom(part) else "native")
                exported.write(folder)
                if self.fresh_process:
                    checkpoint.verify(folder, before, exported.model, exported.needs_code)
                    return
                after = probe(load_saved(folder, exported.needs_code), tiny_ids(2))
            except SwmError as error:
                wrong(f"{who} cannot be saved and loaded: {error}")
        off = float((before.logits - after.logits).abs().max())
        expect(off <= before.tolerance, f"the logits of {who} are off by {off:g} once it was saved and loaded")
        expect(torch.equal(before.continued, after.continued), f"generate() of {who} gives other tokens once loaded")


def family_checks(row: ModelFamily, variants: Sequence[Mapping[str, Any]], fresh_process: bool) -> type[FamilyChecks]:
    """The checks of a row; `variants` are values of the config of its first model type."""
    values: dict[str, Any] = {"row": copy.deepcopy(row), "variants": variants or ({},), "proofs": {}}
    values["fresh_process"] = fresh_process
    return type("FamilyRowChecks", (FamilyChecks,), values)
