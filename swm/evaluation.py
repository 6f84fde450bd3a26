"""Measuring one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swm import models
from swm.budget import ModelShape
from swm.construct import construct
from swm.errors import RecipeError, did_you_mean
from swm.perplexity import PerplexityProtocol, cut_windows, perplexity
from swm.plugins import Plugins
from swm.progress import Progress, Silent

DTYPES = ("auto", "float32", "bfloat16", "float16")


def evaluate_model(
    model: str,
    protocol: Mapping[str, Any],
    plugins: Plugins,
    *,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Perplexity of the model that `model` names; `protocol` has the fields of `PerplexityProtocol`.

    Raises an SwmError before the weights are loaded for everything that can be known by then.
    """
    if dtype not in DTYPES:
        raise RecipeError(f"found '{dtype}'; allowed: {', '.join(DTYPES)}.{did_you_mean(dtype, DTYPES)}", ("dtype",))
    progress = progress or Silent()
    text = protocol.get("text") or plugins.registry.default("text")
    checked = construct(PerplexityProtocol, {**protocol, "text": text}, plugins.registry.build)
    checked.text.check()
    models.pick_device(device)
    source = models.locate(model, plugins.registry, progress)
    config = models.load_config(source, trust_remote_code)
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and checked.seq_len > longest:
        raise RecipeError(f"found {checked.seq_len}; the model takes at most {longest} tokens", ("seq_len",))
    parameters = sum(p.numel() for p in models.empty_model(config, trust_remote_code).parameters())
    models.check_memory(ModelShape(parameters, ()), dtype, config, device)
    windows = cut_windows(models.load_tokenizer(source, trust_remote_code), checked)
    loaded = models.load_model(source, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    return {"model": model, "perplexity": perplexity(loaded, windows, progress)}
