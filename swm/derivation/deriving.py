"""Derives the family row of a model that has none from one run and from nudges of its projections' outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from swm.derivation.config_fields import ConfigProbe, has_bias, projections_of
from swm.derivation.layer_stack import check_causal, find_stack
from swm.derivation.probe import probe_ids
from swm.derivation.reach import CHANNELS
from swm.derivation.roles import BY_HEAD, Roles, is_conv, roles_of
from swm.derivation.small_model import layer_kinds
from swm.errors import FamilyError
from swm.model.families import ModelFamily
from swm.model.units import BLOCKS, READERS
from swm.model.view import ModelView


def derive_row(model: Any) -> tuple[ModelFamily, tuple[str, ...]]:
    """Derive the row of a model.

    Args:
        model: A small model with random weights; it is left as it is.

    Returns:
        The row, which is not proven yet, and remarks on what it does not say.

    Raises:
        FamilyError: With what no row can say.
    """
    config = model.config.get_text_config()
    model_type, ids = model.config.model_type, probe_ids(config.vocab_size)
    check_causal(model, ids)
    path, tail = find_stack(model, ids)
    view = ModelView(model, ModelFamily(f"automatic {model_type}", (model_type,), path, tail))
    recording = view.record(ids[:1].repeat(CHANNELS + 1, 1), batch_size=CHANNELS + 1)
    places: dict[Any, list[int]] = {}
    for position, kind in enumerate(layer_kinds(config, view.layers)):
        places.setdefault(kind, []).append(position)
    looked_at = sorted({position for of in places.values() for position in (of[len(of) // 3], of[-1])})
    agreed, notes = _agreed([roles_of(view, recording, position) for position in looked_at])
    if config is not model.config:
        _check_by_number(model.config)
    row = _with_fields(ConfigProbe(model, path), view.family, agreed, BY_HEAD not in notes)
    if READERS["mlp"] in row.projections and not row.mlp_width:
        notes.append("no field of the config says how wide the MLPs are")
    return row, tuple(notes)


def _check_by_number(config: Any) -> None:
    """Raise FamilyError where features of an image are added behind layers by their numbers: no text shows that."""
    for part, values in config.to_dict().items():
        for name in values if isinstance(values, dict) else ():
            if "deepstack" in str(name) and values[name]:
                raise FamilyError(f"features of images are added behind layers by their numbers ({part}.{name})")


def _agreed(each: Sequence[Roles]) -> tuple[Roles, list[str]]:
    """The roles on which all layers agree that have them; of a part on which two differ, none is believed."""
    claims: dict[str, set[str]] = {}
    notes: dict[str, None] = {}
    for roles in each:
        notes.update(dict.fromkeys(roles.notes))
        for role, path in roles.paths.items():
            claims.setdefault(role, set()).add(path)
    odd = {role.partition(".")[0] for role, paths in claims.items() if len(paths) > 1}
    notes.update(dict.fromkeys(f"layers differ in where their {part} projections are" for part in sorted(odd)))
    agreed = {role: min(paths) for role, paths in claims.items() if role.partition(".")[0] not in odd}
    beside = {path: kind for roles in each for path, kind in roles.alongside.items()}
    return Roles(agreed, (), beside, any(roles.gated for roles in each)), list(notes)


def _with_fields(probe: ConfigProbe, row: ModelFamily, roles: Roles, heads_apart: bool) -> ModelFamily:
    """The row with its projections and what the config says of them.

    Args:
        probe: Asks the class of the model.
        row: The row with its layers and its tail.
        roles: Its projections, and what lies beside them.
        heads_apart: Whether the channels of a head lie together.
    """
    projections = roles.paths
    down, output = projections.get(READERS["mlp"]), projections.get(READERS["attention"])
    readers = {part: probe.reader(path) for part in BLOCKS if (path := projections.get(READERS[part]))}
    own = tuple(part for part in BLOCKS if part in readers and has_bias(readers[part]))
    named = replace(row, projections=dict(projections))
    paths = {part: list(projections_of(named, part).values()) for part in readers if part not in own}
    switches = {part: probe.bias_switch(each) for part, each in paths.items()}
    return replace(
        named,
        prunable_heads=bool(output) and heads_apart and probe.takes_fewer_heads(str(output)),
        custom_only=("attention",) if output and not probe.narrows(output, roles.alongside) else (),
        gated_queries=roles.gated,
        alongside=dict(roles.alongside),
        by_layer=probe.by_layer(),
        tower="" if probe.text is probe.model.config else row.layers.rpartition(".")[0],
        mlp_width=probe.mlp_width(down) if down else "",
        transposed=any(map(is_conv, readers.values())),
        own_bias=own,
        bias_switch={part: switch for part, switch in switches.items() if switch},
    )
