"""A stage tried on a tiny model: planned, performed, replayed, saved, loaded again."""

from __future__ import annotations

import copy
import functools
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

import torch
from torch import Tensor

from swm.checkpoint.export import export
from swm.checkpoint.layout import Layout
from swm.checkpoint.saving import Probe, probe
from swm.errors import ModelError
from swm.interfaces.progress import Silent
from swm.interfaces.recovery import Recovery, RecoveryContext
from swm.interfaces.stage import Setting, Stage, StageContext, StagePlan
from swm.interfaces.text import Calibration, Share, TextSource, WrittenText
from swm.loading import models
from swm.loading.weights import check_taken
from swm.model.families import find_family
from swm.model.quiet import quiet_transformers
from swm.model.shape import ModelShape
from swm.model.view import ModelView
from swm.plan.plan import Plan, PlannedStage
from swm.plan.reading import read_plan
from swm.plugins.registry import Registry
from swm.testing.expect import copies
from swm.testing.tiny import tiny_ids, tiny_model, tiny_tokenizer

# With the blank lines between them just four pieces of 16 tokens that are easy to learn.
DOCUMENTS = ("abcdefgh" * 2, "ab" * 6, "hgfedcba" * 2, "aabbccdd" + "abcdef")
SEED = 0

MakeStage: TypeAlias = Callable[[ModelView], Stage]


@dataclass(eq=False)
class Trial:
    """One stage on one family. What is asked for is done once and kept.

    `begin` changes the fresh model before the stage sees it.
    """

    make: MakeStage
    family: str
    registry: Registry
    begin: Callable[[ModelView], None]

    @functools.cached_property
    def folder(self) -> Path:
        """For what is written; it goes with the trial."""
        folder = tempfile.mkdtemp(prefix="swm-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def fresh(self) -> ModelView:
        """The model before the stage."""
        model = tiny_model(self.family)
        view = ModelView(model, find_family(model.config, self.registry.families))
        self.begin(view)
        return view

    def context(self, view: ModelView) -> StageContext:
        """What the stage works with on this model."""
        calibration = Calibration(tiny_ids(), {"name": "tiny"}, SEED)
        context = StageContext(view, calibration, shape(view), SEED, Silent())
        context.recovery = functools.partial(self._recovery, view)
        context.dense = self._dense
        context.tokenizer, context.text = tiny_tokenizer(), _readable
        return context.first(self.stage.seen_samples())

    def _dense(self) -> ModelView:
        model = tiny_model(self.family)
        return ModelView(model, find_family(model.config, self.registry.families))

    def _recovery(self, view: ModelView, recovery: Recovery) -> RecoveryContext:
        return RecoveryContext(
            view,
            tiny_tokenizer(),
            _readable,
            self._dense,
            SEED,
            Silent(),
            Path(tempfile.mkdtemp(dir=self.folder)),
            lambda step, loss: None,
        )

    @functools.cached_property
    def stage(self) -> Stage:
        """The stage, once it has checked what is known before the weights are loaded."""
        view = self.fresh()
        stage, (samples, seq_len) = self.make(view), tiny_ids().shape
        empty = models.empty_view(copy.deepcopy(view.config), self.registry.families)
        setting = Setting(shape(view), view.family, view.config, samples, seq_len, model=empty)
        stage.check(setting.seen_by(stage.seen_samples()))
        stage.check_texts(tiny_tokenizer())
        return stage

    @functools.cached_property
    def _first(self) -> tuple[StagePlan, dict[str, Tensor], dict[str, Tensor]]:
        view = self.fresh()
        before = copies(state_of(view))
        torch.manual_seed(SEED)
        planned = self.stage.plan(self.context(view))
        return planned, before, state_of(view)

    @property
    def planned(self) -> StagePlan:
        return self._first[0]

    @property
    def planning(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The parameters before and after planning."""
        return self._first[1:]

    def plan_again(self, tokens_per_batch: int | None = None) -> StagePlan:
        """Planned on another fresh model, with so many tokens in a batch."""
        with batches(tokens_per_batch):
            return self.stage.plan(self.context(self.fresh()))

    @functools.cached_property
    def done(self) -> tuple[ModelView, Mapping[str, Any]]:
        """The model as the stage leaves it, and what the report says of it."""
        planned, view = self.planned, self.fresh()
        torch.manual_seed(SEED)
        facts = self.stage.perform(planned, self.context(view))
        return view, {**planned.facts, **facts}

    @functools.cached_property
    def again(self) -> ModelView:
        """Another fresh model after the stage, which nobody saves: that adds to its config."""
        view = self.fresh()
        torch.manual_seed(SEED)
        self.stage.perform(self.planned, self.context(view))
        return view

    @functools.cached_property
    def plan(self) -> Plan:
        """The plan as a run would write it."""
        view, settings = self.fresh(), self.stage.spec()
        identity = {
            "source": "tiny",
            "fingerprint": view.fingerprint(),
            "model_type": view.config.model_type,
            "dtype": "float32",
            "layers": len(view.layers),
            "parameters": view.parameters(),
        }
        planned = self.planned
        stage = PlannedStage(settings.pop("name"), settings, planned.steps, planned.facts, planned.tensors)
        return Plan(identity, [stage], self.context(view).calibration.record(), SEED)

    def replayed(self) -> ModelView:
        """A fresh model after the plan, written to a file and read back."""
        file = self.folder / "plan.yaml"
        self.plan.write(file)
        view = self.fresh()
        for stage in read_plan(file, self.registry).stages:
            stage.apply(view)
        return view

    @functools.cached_property
    def before_saving(self) -> Probe:
        """Logits and greedy tokens of the model in memory."""
        return self.probe(self.done[0].model)

    @staticmethod
    def probe(model: Any) -> Probe:
        """Logits and greedy tokens of a model that may have lost a part of its vocabulary."""
        return probe(model, tiny_ids(2, model.config.vocab_size))

    @functools.cached_property
    def saved(self) -> tuple[Path, Any, bool]:
        """The folder that holds the model, what was saved, and whether its own code is needed to load it."""
        folder = self.folder / "model"
        folder.mkdir()
        exported = export(self.done[0], self._layout())
        exported.write(folder)
        return folder, exported.model, exported.needs_code

    def _layout(self) -> Layout:
        if self.stage.replaces:
            return "factored"
        family = self.done[0].family
        own = self.stage.uneven() or any(family.only_custom(part) for part in self.stage.cut_parts())
        return "custom" if own else "native"

    def reloaded(self) -> Any:
        """The saved model, loaded by Transformers in this process. Raises ModelError when it cannot be."""
        folder, _, code = self.saved
        return load_saved(folder, code)


def load_saved(folder: Path, needs_code: bool) -> Any:
    """A saved model, loaded by Transformers in this process. Raises ModelError when it cannot be."""
    from transformers import AutoModelForCausalLM

    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model, loading_info = AutoModelForCausalLM.from_pretrained(
                folder, trust_remote_code=needs_code, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # whatever a class raises for weights that do not fit
            raise ModelError(f"{type(error).__name__}: {error}") from error
    check_taken("saved", model, loading_info)
    return model.eval()


def shape(view: ModelView) -> ModelShape:
    """What is known of a model before its weights are loaded."""
    return ModelShape(view.parameters(), tuple(view.layer_parameters()))


def state_of(view: ModelView) -> dict[str, Tensor]:
    """The parameters and buffers of the model, its own tensors."""
    model = view.model
    return {name: value.detach() for name, value in (*model.named_parameters(), *model.named_buffers())}


@contextmanager
def batches(tokens: int | None) -> Iterator[None]:
    """Models are run on batches of at most so many tokens, or one sample."""
    if tokens is None:
        yield
        return
    with mock.patch("swm.model.samples.TOKENS_PER_BATCH", tokens):
        yield


def _readable(source: TextSource) -> TextSource:
    if source.parts():
        return source.with_parts([Share(_readable(part.text), part.share) for part in source.parts()])
    return WrittenText(source, DOCUMENTS) if source.from_model else source
