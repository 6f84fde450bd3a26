"""What a GGUF file says of a model: its architecture's numbers, its name and where it comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swm.files.front_matter import front_matter
from swm.gguf.layers import LayerShape, head_size
from swm.gguf.rope import rope_values
from swm.gguf.stored_model import StoredModel
from swm.model.gguf_architecture import GgufArchitecture

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def architecture_values(model: StoredModel, row: GgufArchitecture, shapes: Sequence[LayerShape]) -> dict[str, Any]:
    """The numbers of the architecture, by keys without its name."""
    from gguf import Keys

    config = model.config
    epsilon = Keys.Attention.LAYERNORM_RMS_EPS if row.rms else Keys.Attention.LAYERNORM_EPS
    size = head_size(config)
    values: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": len(shapes),
        "feed_forward_length": _each(row, [shape.mlp for shape in shapes]),
        "attention.head_count": _each(row, [shape.heads for shape in shapes]),
        "attention.head_count_kv": _each(row, [shape.kv_heads for shape in shapes]),
        "attention.key_length": size,
        "attention.value_length": size,
        epsilon.format(arch="").removeprefix("."): float(getattr(config, row.epsilon)),
        **rope_values(config),
    }
    for key, name in row.values.items():
        value = getattr(config, name, None)
        if value is not None:
            values[key] = value
    return values


def _each(row: GgufArchitecture, counts: list[int]) -> int | list[int]:
    return counts if row.own_shapes else counts[0]


def general_values(folder: Path) -> dict[str, Any]:
    """What the report and the card in the folder say of the model: name, license, base model. No path, no machine."""
    card, report = front_matter(folder / "README.md"), _read_json(folder / "report.json")
    source = report.get("model", {}).get("source") if isinstance(report.get("model"), Mapping) else None
    base = card.get("base_model")
    base = base[0] if isinstance(base, list) and base else base
    values: dict[str, Any] = {"general.type": "model"}
    if isinstance(source, str) and source:
        values["general.name"] = f"{Path(source).name}-pruned"
    elif isinstance(base, str):
        values["general.name"] = base.rpartition("/")[2]
    if isinstance(card.get("license"), str):
        values["general.license"] = card["license"]
    if isinstance(base, str) and HUB_ID.fullmatch(base):
        owner, _, name = base.partition("/")
        values["general.base_model.count"] = 1
        values["general.base_model.0.name"] = name
        values["general.base_model.0.organization"] = owner
        values["general.base_model.0.repo_url"] = f"https://huggingface.co/{base}"
    tags = card.get("tags")
    if isinstance(tags, list) and tags and all(isinstance(tag, str) for tag in tags):
        values["general.tags"] = tags
    return values


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, Mapping) else {}
