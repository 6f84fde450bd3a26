"""The self-test of a family row: a model cut by it must compute what the model with the same silent does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from swm.derivation.comparing import PROVEN, TOLERANCE, Differs, built_anew, check_same, distance, logits_of
from swm.derivation.config_fields import projections_of, wrong_biases
from swm.derivation.experts_silent import fewer_expert_channels, fewer_experts
from swm.derivation.probe import probe_ids
from swm.derivation.proof import CONFIGS, SUB_BLOCKS, TOO_FEW, UNITS, Capability, Proof, RowVerdict
from swm.derivation.sub_blocks_silent import without_blocks
from swm.errors import FamilyError, brief
from swm.model.experts import expert_weights
from swm.model.families import ModelFamily
from swm.model.hidden_states import split_hidden
from swm.model.layer import Layer
from swm.model.ranges import format_ranges
from swm.model.rebuilt import depth_refusal
from swm.model.surgery import keep_layers
from swm.model.units import READERS, Block, features
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units


@torch.no_grad()
def prove_row(model: Any, family: ModelFamily) -> Proof:
    """Test each capability of a row on a model, which is left as it is.

    Args:
        model: A model with random weights that all count, of few layers (see `small_model`).
        family: The row.

    Returns:
        The verdicts. Where layers run one by one do not make the model, nothing else is tested.
    """
    verdicts: dict[Capability, RowVerdict] = {"layers": _tried(lambda: _layer_by_layer(model, family))}
    if verdicts["layers"].state == "proven":
        verdicts["fewer layers"] = _tried(lambda: _without_each_layer(model, family))
        for part, name in UNITS.items():
            # What the row says of the other part may be wrong, and the widths of both are written into the config.
            row = replace(family, projections=projections_of(family, part))
            verdicts[name] = _tried(lambda part=part, row=row: _half_of_units(model, row, part))  # type: ignore[misc]
            if verdicts[name].state == "proven":
                verdicts[CONFIGS[part]] = _tried(lambda part=part, row=row: _half_built_anew(model, row, part))  # type: ignore[misc]
        if any(map(expert_weights, family.layers_of(model))):
            verdicts["experts"] = _tried(lambda: fewer_experts(model, family))
            verdicts["expert channels"] = _tried(lambda: fewer_expert_channels(model, family))
        for part, name in SUB_BLOCKS.items():
            verdicts[name] = _tried(lambda part=part: without_blocks(model, family, part))  # type: ignore[misc]
    return Proof(verdicts)


def _tried(test: Callable[[], RowVerdict]) -> RowVerdict:
    try:
        return test()
    except Exception as error:  # a wrong row fails anywhere, with any error
        text = str(error) if isinstance(error, (Differs, FamilyError)) else f"{type(error).__name__}: {brief(error)}"
        return RowVerdict("wrong", text)


def _layer_by_layer(model: Any, family: ModelFamily) -> RowVerdict:
    view = ModelView(model, family)
    recording = view.record(probe_ids(view.config.vocab_size))
    hidden = recording.states[0]
    for position in range(len(view.layers)):
        hidden = view.run_layer(recording, position, hidden)
    check_same(view.logits(hidden), logits_of(model), "its layers run one by one")
    return PROVEN


def _without_each_layer(model: Any, family: ModelFamily) -> RowVerdict:
    count, refused, why = len(family.layers_of(model)), [], ""
    for gone in range(count if count > 1 else 0):
        kept = [position for position in range(count) if position != gone]
        refusal = depth_refusal(model, family, kept)
        if refusal:
            refused.append(gone)
            why = why or refusal
            continue
        cut = copy.deepcopy(model)
        keep_layers(ModelView(cut, family), kept)
        with _passed_by(family.layers_of(model)[gone]):
            wanted = logits_of(model)
        check_same(logits_of(cut), wanted, f"the model without its layer {gone}")
        check_same(logits_of(built_anew(cut)), wanted, f"the model without its layer {gone}, built from its config,")
    if count < 2 or len(refused) == count:
        return RowVerdict("refused", why or "the model has one layer")
    places = format_ranges(refused)
    return RowVerdict("proven", f"layers {places} of {count} must stay: {why}" if refused else "")


def _half_of_units(model: Any, family: ModelFamily, part: Block) -> RowVerdict:
    claimed = family.prunable_heads if part == "attention" else True
    if READERS[part] not in family.projections:
        return RowVerdict("refused", "the row names no such projections")
    if not claimed:
        return RowVerdict("refused", "the row says that the config cannot hold fewer of them")
    view = ModelView(model, family)
    for position in range(len(view.layers)):
        try:
            view.layer(position).check_part(part)
        except FamilyError as error:
            return RowVerdict("refused", str(error))
    if not any(view.layer(i).units(part) > 1 for i in range(len(view.layers))):
        return RowVerdict("refused", TOO_FEW)
    cut, masked = _cut_and_masked(model, family, part)
    wanted = logits_of(masked)
    if distance(wanted, logits_of(model)) < TOLERANCE:
        return RowVerdict("wrong", f"the {READERS[part]} projection makes no difference to the model")
    check_same(logits_of(cut), wanted, f"the model with half of its {_units(part)}")
    return PROVEN


def _half_built_anew(model: Any, family: ModelFamily, part: Block) -> RowVerdict:
    if part == "mlp" and not family.mlp_width:
        return RowVerdict("refused", "no field of the config says this width and nothing else")
    if part in family.custom_only:
        return RowVerdict("refused", "no field of the config says this width; layout: custom holds it")
    biases = wrong_biases(model, family).get(part)
    if biases:
        raise Differs(biases)
    cut, masked = _cut_and_masked(model, family, part)
    check_same(logits_of(built_anew(cut)), logits_of(masked), f"the model with half of its {_units(part)}, built anew,")
    return PROVEN


def _cut_and_masked(model: Any, family: ModelFamily, part: Block) -> tuple[Any, Any]:
    """The model with half of its units removed, and with their columns made zero where they are read."""
    cut, masked = copy.deepcopy(model), copy.deepcopy(model)
    view, generator = ModelView(cut, family), torch.Generator().manual_seed(0)
    for position, layer in enumerate(family.layers_of(masked)):
        count = view.layer(position).units(part)
        if count < 2:
            continue
        kept = sorted(torch.randperm(count, generator=generator)[: count // 2].tolist())
        reader = layer.get_submodule(family.projections[READERS[part]])
        size, weight = features(reader)[0] // count, reader.get_parameter("weight")
        gone = [unit * size + channel for unit in range(count) if unit not in set(kept) for channel in range(size)]
        weight.index_fill_(0 if family.transposed else 1, torch.tensor(gone), 0)
        _mask_norms(view.layer(position), layer, part, kept)
        keep_units(view, position, part, kept)
    return cut, masked


def _mask_norms(layer: Layer, masked: nn.Module, part: Block, kept: list[int]) -> None:
    """Make a norm over all units one over those that stay: of so many values, zeros where the others were."""
    for piece in layer.slices(part):
        path = layer.family.native(piece.key)
        if layer.family.alongside.get(path, "heads") == "heads":
            continue
        norm, stays = masked.get_submodule(path.removesuffix(".weight")), ~piece.removed(kept)
        norm.register_forward_pre_hook(lambda module, args, stays=stays: (args[0] * stays,))
        norm.get_parameter("weight").mul_(stays.float().mean().sqrt())
        for name in ("variance_epsilon", "eps"):
            if name in vars(norm):
                setattr(norm, name, getattr(norm, name) * float(stays.float().mean()))


@contextmanager
def _passed_by(layer: nn.Module) -> Iterator[None]:
    """Inside the block the layer runs, as others may share what it makes, and gives what it was given."""
    run = layer.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output, hidden = run(*args, **kwargs), split_hidden(args, kwargs)[0]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


def _units(part: Block) -> str:
    return "MLP channels" if part == "mlp" else "heads"
