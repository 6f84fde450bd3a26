"""The depth of a config: every field that says how many layers there are, or which of them is of which kind."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

# Lists with one entry a layer. transformers refuses to save a config whose `layer_types` has another length.
PER_LAYER_LISTS = (
    "layer_types",
    "mlp_layer_types",
    "no_rope_layers",
    "layers_block_type",
    "attention_layers",
    "intermediate_size",
    "activation_sparsity_pattern",
)
# Lists that are repeated until all layers have an entry.
REPEATED_LISTS = ("block_types",)
# Lists of the numbers of the layers that are of some kind.
INDEX_LISTS = ("mlp_only_layers", "moe_layers", "attn_layer_indices", "cross_attention_layers", "full_attn_idxs")
# So many layers from the bottom are of some kind, and the last layer that is.
FIRST_LAYERS = ("first_k_dense_replace", "moe_layer_start_index")
LAST_LAYER = ("moe_layer_end_index",)
# So many layers at the top are of some kind.
LAST_LAYERS = ("num_kv_shared_layers",)
# Fields of single layers, by their numbers.
OVERRIDES = "per_layer_config"


def cut_config_to(config: Any, kept: Sequence[int]) -> None:
    """Make every depth field of a config agree with the layers that remain.

    A field that follows from others has no setter and is left alone. What no field can say (leading layers, periods)
    shows when a model is built from the config, see `swm.model.rebuilt`.

    Args:
        config: The config of the text model.
        kept: Positions, in the model so far, of the layers whose modules remain, ascending.
    """
    before = config.num_hidden_layers
    stored = config.to_dict()
    changes: dict[str, Any] = {}
    overrides = stored.get(OVERRIDES)
    if overrides:
        # While it stands there, fields that differ between layers cannot be read.
        setattr(config, OVERRIDES, None)
    for name in PER_LAYER_LISTS:
        values = getattr(config, name, None)
        if isinstance(values, list | tuple) and len(values) == before:
            changes[name] = [values[i] for i in kept]
    for name in REPEATED_LISTS:
        if stored.get(name):
            changes[name] = [stored[name][i % len(stored[name])] for i in kept]
    for name in INDEX_LISTS:
        if stored.get(name):
            changes[name] = [new for new, old in enumerate(kept) if old in stored[name]]
    for name in FIRST_LAYERS:
        if _is_count(stored.get(name)):
            changes[name] = sum(old < stored[name] for old in kept)
    for name in LAST_LAYER:
        if _is_count(stored.get(name)) and stored[name] >= 0:
            changes[name] = sum(old <= stored[name] for old in kept) - 1
    for name in LAST_LAYERS:
        if stored.get(name):
            changes[name] = sum(old >= before - stored[name] for old in kept)
    if getattr(config, "max_window_layers", None) is not None:
        changes["max_window_layers"] = min(config.max_window_layers, len(kept))
    for name, value in {**changes, "num_hidden_layers": len(kept)}.items():
        # Fields that cannot be set follow from others that are cut already.
        with contextlib.suppress(AttributeError, NotImplementedError):
            setattr(config, name, value)
    if overrides:
        by_number = {int(number): values for number, values in overrides.items()}
        setattr(config, OVERRIDES, {new: by_number[old] for new, old in enumerate(kept) if old in by_number})


def key_sources(config: Any) -> dict[int, int]:
    """For each layer that reads the keys and values of an earlier one, which that is."""
    modes: Sequence[str | None] = getattr(config, "kv_sharing_modes", None) or ()
    last: dict[str, int] = {}
    sources = {}
    for position, (mode, kind) in enumerate(zip(modes, config.layer_types if modes else (), strict=False)):
        if mode == "store":
            last[kind] = position
        elif mode == "reuse":
            sources[position] = last.get(kind, -1)
    return sources


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
