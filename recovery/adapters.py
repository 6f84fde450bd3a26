"""Low-rank adapters on every linear layer of a model, merged or taken off again at the end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def adapters(model: nn.Module, rank: int, alpha: float, dropout: float) -> Iterator[dict[str, nn.Parameter]]:
    """The adapters' parameters by name. They are merged into the weights at the end, and taken off after an error.

    All projections get one, the vocabulary projection none. Adapters of half-precision models are float32.

    Args:
        model: The model; its own parameters are not trained.
        rank: The rank of each adapter.
        alpha: What an adapter gives is multiplied by `alpha / rank`.
        dropout: The share of an adapter's inputs that is set to zero in training.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, bias="none", target_modules="all-linear")
    before = {p: p.requires_grad for p in model.parameters()}
    with warnings.catch_warnings():
        # peft reads what transformers deprecates, and sets for Conv1D what it then warns of.
        warnings.simplefilter("ignore")
        wrapped: Any = get_peft_model(model, config)  # type: ignore[arg-type,unused-ignore]
    try:
        yield {name: p for name, p in model.named_parameters() if p.requires_grad}
    except BaseException:
        wrapped.unload()
        raise
    else:
        wrapped.merge_and_unload()
    finally:
        for parameter, flag in before.items():
            parameter.requires_grad_(flag)
