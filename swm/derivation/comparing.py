"""How the self-test compares two models that should compute the same."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from swm.derivation.probe import probe_ids
from swm.derivation.proof import RowVerdict
from swm.model.quiet import quiet_transformers

# Of the largest score: rounding leaves a hundredth of it, and what does not count is less than that.
TOLERANCE = 1e-4
PROVEN = RowVerdict("proven")


class Differs(Exception):  # noqa: N818  not an error of the program: a row that is wrong
    """Two models that should compute the same do not."""


def logits_of(model: Any) -> Tensor:
    """The scores of the test's tokens."""
    ids = probe_ids(model.config.get_text_config().vocab_size)
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


def built_anew(model: Any) -> Any:
    """A model of the same class for the model's config, with the same weights. Raises when they do not fit."""
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        again = type(model)(copy.deepcopy(model.config)).to(model.dtype)
    again.load_state_dict(model.state_dict(), strict=True)
    return again.eval()


def check_same(one: Tensor, wanted: Tensor, what: str) -> None:
    """Raise Differs unless two models give the same scores."""
    apart = distance(one, wanted)
    if not apart <= TOLERANCE:
        raise Differs(f"{what} gives other scores than the original model with the same silent: by {apart:.1g}")


def check_counts(silent: Tensor, whole: Tensor, what: str) -> None:
    """Raise Differs where a model gives the same scores with a part silent as with it."""
    if distance(silent, whole) < TOLERANCE:
        raise Differs(f"{what} make no difference to the model")


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-30))
