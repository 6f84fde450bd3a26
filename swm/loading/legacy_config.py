"""What swm adds to a config.json, so that older readers see the same numbers as transformers 5."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Layer types with a rotary table of their own, by the flat key in which transformers 4 keeps the table's base.
BASES = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}
# What `rope_parameters` holds and transformers 4 keeps beside `rope_scaling`.
BESIDE = ("rope_theta", "partial_rotary_factor")
# Kinds of rotary tables that transformers 4 does not know; of flat keys its own reader of them makes something else.
NEW_ROPE_TYPES = ("proportional",)


def complete_config(file: Path, older_names: Mapping[str, str], changes: Mapping[str, Any] | None = None) -> None:
    """Add the flat keys, and then `changes`, to a config.json that transformers 5 wrote.

    `older_names` is that of the model's family.
    """
    values = completed(json.loads(file.read_text(encoding="utf-8")), older_names, changes)
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def completed(
    config: Mapping[str, Any], older_names: Mapping[str, str], changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The values of a config with the flat keys, and then `changes`; see `complete_config`."""
    values = {**flat_keys(config, older_names), **config, **(changes or {})}
    text = values.get("text_config")
    if isinstance(text, dict):
        values["text_config"] = {**flat_keys(text, older_names), **text}
    return values


def flat_keys(config: Mapping[str, Any], older_names: Mapping[str, str]) -> dict[str, Any]:
    """What transformers 4 and converters read in place of `rope_parameters` and `dtype`.

    transformers 5 prefers its own keys, and both say the same. Of tables by layer type, that of full attention is the
    one whose scaling transformers 4 reads.
    """
    flat: dict[str, Any] = {} if config.get("dtype") is None else {"torch_dtype": config["dtype"]}
    flat.update({older_names[key]: config[key] for key in older_names if key in config})
    rope = config.get("rope_parameters")
    if not rope:
        return flat
    tables = [table for table in rope.values() if isinstance(table, dict)] or [rope]
    if any(table.get("rope_type") in NEW_ROPE_TYPES for table in tables):
        return flat
    if any(kind in rope for kind in BASES):
        flat.update({key: rope[kind].get("rope_theta") for kind, key in BASES.items() if rope.get(kind)})
        rope = rope.get("full_attention") or {}
    flat.update({older_names.get(key, key): rope[key] for key in BESIDE if rope.get(key) is not None})
    # Positions of several axes are a scaling to transformers 4.
    scaled = rope.get("rope_type", "default") != "default" or "mrope_section" in rope
    flat["rope_scaling"] = {key: value for key, value in rope.items() if key not in BESIDE} if scaled else None
    return flat
