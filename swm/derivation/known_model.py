"""The one place that decides which family row a model has: a plugin's, swm's own, or one derived from the model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from swm.derivation.deriving import derive_row
from swm.derivation.proof import Proof, without_disproven
from swm.derivation.row_cache import StoredRow, read_row, row_file, write_row
from swm.derivation.self_test import prove_row
from swm.derivation.small_model import small_model, stack_guess
from swm.errors import FamilyError, ModelError, listed
from swm.loading.empty_model import empty_model, view_of
from swm.model.families import ModelFamily, row_of, unknown_row
from swm.model.own_layers import own_layers, plain_config
from swm.model.quiet import quiet_transformers
from swm.model.view import ModelView
from swm.plugins.registry import Registry

AUTOMATIC = "automatic"
# What a class does that gives no scores of next tokens.
OTHER_TASKS = ("Classification", "QuestionAnswering", "MaskedLM", "MultipleChoice", "PreTraining", "Regression")


@dataclass(frozen=True)
class KnownModel:
    """The model of a config, without memory for its weights, and its family row.

    `origin` is `automatic`, `swm`, or the plugin that brought the row. `proof` holds the verdicts of the test by
    numbers, none where no small model could be made for it; `remarks` say what the row leaves out.
    """

    view: ModelView
    origin: str
    proof: Proof
    remarks: tuple[str, ...] = ()

    @property
    def family(self) -> ModelFamily:
        return self.view.family

    def notes(self) -> list[str]:
        """What a report says of the row: that it is automatic, and which parts the test did not confirm."""
        if self.origin == AUTOMATIC:
            kind = self.view.model_config.model_type
            return [
                f"swm has no family row for model_type '{kind}': an automatic one was derived and tested; "
                f"proven: {listed(self.proof.of('proven'))}{self._unproven()}"
            ]
        return [
            f"family row '{self.family.name}' did not pass its test for {part}, which is not cut: {why}"
            for part, why in self.family.disproven.items()
        ]

    def _unproven(self) -> str:
        others = {**{name: self.proof.verdicts[name].reason for name in self.proof.of("refused")}}
        others |= {name: self.proof.verdicts[name].reason for name in self.proof.of("wrong")}
        return "".join(f"; not {name}: {why}" for name, why in others.items())


def known_model(config: Any, registry: Registry, trust_remote_code: bool = False) -> KnownModel:
    """Find or derive the row of a model, and test it by numbers on a small random model of the same kind.

    The result of the test is kept in the cache folder. A part about which a row is wrong is refused where it is asked
    for, with the reason.

    Args:
        config: The config of the model.
        registry: The rows that are known. A plugin's comes before swm's own, both before a derived one.
        trust_remote_code: Whether the model's own code may run.

    Raises:
        FamilyError: There is no row and none can be derived, or the row is wrong about the layers.
        ModelError: The config describes no model.
    """
    row = row_of(config, registry.families)
    if row is None:
        return _derived(config, registry, trust_remote_code)
    empty = empty_model(config, trust_remote_code)
    view, origin = view_of(empty, row), registry.family_origin(config.model_type)
    # A row tells of layers as their class makes them.
    plain = empty if own_layers(config) is None else empty_model(plain_config(config))
    stored = _kept(plain, row)
    proof = stored.proven()
    if proof.failure():
        raise FamilyError(
            f"family row '{row.name}' of {origin} is wrong about model_type '{config.model_type}': {proof.failure()}"
        )
    disproven = proof.disproven(row)
    if disproven:
        view = view_of(empty, replace(row, disproven=disproven))
    return KnownModel(view, origin, proof, tuple(stored.notes))


def _derived(config: Any, registry: Registry, trust_remote_code: bool) -> KnownModel:
    why = _other_task(config)
    if why:
        raise unknown_row(config, registry.families, why)
    try:
        empty = empty_model(config, trust_remote_code)
        plain = empty if own_layers(config) is None else empty_model(plain_config(config))
    except FamilyError:
        raise
    except ModelError as error:
        raise unknown_row(config, registry.families, str(error)) from None
    stored = _kept(plain, None)
    if stored.family is None:
        raise unknown_row(config, registry.families, stored.error)
    return KnownModel(view_of(empty, stored.family), AUTOMATIC, stored.proven(), tuple(stored.notes))


def _other_task(config: Any) -> str:
    """Why a model is none that scores next tokens of the text that it reads; empty when it may be one."""
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder-decoder model, and swm prunes decoders"
    for name in getattr(config, "architectures", None) or ():
        if any(task in name for task in OTHER_TASKS):
            return f"it is a {name}, and swm prunes models that score next tokens"
    return ""


def _kept(empty: Any, row: ModelFamily | None) -> StoredRow:
    """What is known of a model's row, tested or derived now where it is not in the cache."""
    file = row_file(empty, row)
    stored = read_row(file)
    if stored is None:
        with _aside():
            stored = _test(empty, row) if row is not None else _derive(empty)
        if not stored.error:
            # What fails for want of memory or of a package may work the next time.
            write_row(file, stored)
    return stored


def _test(empty: Any, row: ModelFamily) -> StoredRow:
    try:
        small = small_model(empty, row.layers)
    except FamilyError as error:
        return StoredRow(notes=[f"not tested: {error}"])
    return StoredRow(proof=dict(prove_row(small, row).verdicts))


def _derive(empty: Any) -> StoredRow:
    try:
        stack = stack_guess(empty)
        if not stack:
            raise FamilyError("no list of modules in it is as long as the config says there are layers")
        small = small_model(empty, stack)
        row, remarks = derive_row(small)
        proof = prove_row(small, row)
        config = proof.verdicts.get("mlp config")
        if config is not None and config.state == "wrong":
            # The width itself can be cut: no config says it.
            row, remarks = replace(row, mlp_width=""), (*remarks, f"{row.mlp_width} is not the MLPs' width alone")
            proof = prove_row(small, row)
    except Exception as error:  # a model of any build may fail anywhere
        text = str(error) if isinstance(error, FamilyError) else f"{type(error).__name__}: {error}"
        return StoredRow(error=" ".join(text.split())[:400])
    if proof.failure():
        return StoredRow(error=proof.failure())
    row = replace(without_disproven(row, proof), disproven=proof.disproven(row))
    return StoredRow(family=row, proof=dict(proof.verdicts), notes=list(remarks))


@contextmanager
def _aside() -> Iterator[None]:
    """Inside the block, random numbers are drawn beside those of the run, and warnings are not the user's."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore")
        yield
