"""The scaling of rotary tables in a GGUF file, which transformers does not read for most architectures."""

from __future__ import annotations

from typing import Any

import torch

from swm.errors import ModelError

TABLE = "rope_freqs.weight"
FULL, SLIDING = "full_attention", "sliding_attention"
# The settings of Llama 3.1 and later that a table of frequencies does not tell; its factor it does.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def scaled_rope(reader: Any, architecture: str, config: Any) -> dict[str, Any] | None:
    """The `rope_parameters` that the file means where the config has unscaled ones; None where that is right.

    Raises ModelError for a scaling that cannot be told from the file.
    """
    rope = getattr(config, "rope_parameters", None)
    if not rope or FULL not in rope:
        return _scaled(reader, architecture, config, rope)
    # Layers with a window have a table of their own, which nothing scales.
    tables = {kind: dict(table) for kind, table in rope.items()}
    for kind, name in ((FULL, "freq_base"), (SLIDING, "freq_base_swa")):
        base = _field(reader, f"{architecture}.rope.{name}")
        if base is not None and kind in tables:
            tables[kind]["rope_theta"] = float(base)
    return {**tables, FULL: _scaled(reader, architecture, config, tables[FULL]) or tables[FULL]}


def _scaled(reader: Any, architecture: str, config: Any, rope: dict[str, Any] | None) -> dict[str, Any] | None:
    """The scaled table of the file in place of an unscaled one; None where that is right."""
    from gguf import RopeScalingType

    if not rope or rope.get("rope_type", "default") != "default":
        return None
    theta = {"rope_theta": rope["rope_theta"]}
    kind = _field(reader, f"{architecture}.rope.scaling.type")
    factor = _field(reader, f"{architecture}.rope.scaling.factor")
    if kind == RopeScalingType.LINEAR.value and factor:
        return {**theta, "rope_type": kind, "factor": float(factor)}
    length = _field(reader, f"{architecture}.rope.scaling.original_context_length")
    if kind == RopeScalingType.YARN.value and factor and length:
        scaled = {"rope_type": kind, "factor": float(factor), "original_max_position_embeddings": int(length)}
        return {**theta, **scaled}
    if kind not in (None, RopeScalingType.NONE.value):
        raise ModelError(f"the GGUF file scales its rotary tables by '{kind}', which is not read from GGUF files")
    table = next((tensor.data for tensor in reader.tensors if tensor.name == TABLE), None)
    if table is None or (table == 1).all():
        return None
    factors = torch.tensor(table.flatten().tolist())
    llama3 = {**theta, "rope_type": "llama3", "factor": float(factors.max()), **LLAMA3}
    plain = theta["rope_theta"] ** -(torch.arange(len(factors)) / len(factors))
    if not torch.allclose(_llama3(config, llama3), plain / factors, rtol=1e-3):
        raise ModelError(f"the GGUF file holds rotary frequencies ({TABLE}) that are not those of Llama 3")
    return llama3


def _llama3(config: Any, rope: dict[str, Any]) -> torch.Tensor:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    trial = type(config)(**{**config.to_dict(), "rope_parameters": dict(rope)})
    frequencies: torch.Tensor = ROPE_INIT_FUNCTIONS["llama3"](trial, torch.device("cpu"))[0]
    return frequencies


def _field(reader: Any, name: str) -> Any:
    field = reader.fields.get(name)
    return None if field is None else field.contents()
