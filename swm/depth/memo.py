"""Memo: the numbers that a search knows already, from its own trials and from the cache of earlier runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from swm.cache.observations import Observation, Observed
from swm.cache.recorded_numbers import RecordedNumbers
from swm.model.state import State
from swm.model.windows import Window


class Memo:
    """Numbers by name; a name says everything that its number depends on besides the model and the text."""

    def __init__(self, observed: Observed | None, about: Mapping[str, Any]) -> None:
        """`observed` is the cache, None where nothing is kept; its numbers are stored under `about`."""
        self._kept: RecordedNumbers | None = None if observed is None else observed.values(about)
        self._asked: dict[str, float] = {}
        self._bounds: dict[str, float] = {}

    @property
    def has_cache(self) -> bool:
        """Whether numbers of earlier runs may be known."""
        return self._kept is not None

    def asked(self, name: str) -> float | None:
        """The number of that name, if this search asked for it before."""
        return self._asked.get(name)

    def asked_bound(self, name: str, above: float) -> float | None:
        """A bound of that number that is not above `above`, if this search found one."""
        bound = self._bounds.get(name, math.inf)
        return bound if bound <= above else None

    def number(self, name: str, compute: Callable[[], float]) -> float:
        """The number of that name; what `compute` gives, if no run has asked for it before."""
        if name not in self._asked:
            value = self._cached(name)
            if value is None:
                value = compute()
                self._cache(name, value)
            self._asked[name] = value
        return self._asked[name]

    def number_or_bound(self, name: str, above: float, compute: Callable[[], tuple[float, bool]]) -> tuple[float, bool]:
        """As `number`, where a bound that is not above `above` will do; and whether it is the number itself.

        `compute` gives the number and True, or such a bound and False.
        """
        bound_name = f"{name} above {above!r}"
        if (known := self._cached(name)) is not None:
            value, exact = known, True
        elif (known := self._cached(bound_name)) is not None:
            value, exact = known, False
        else:
            value, exact = compute()
            self._cache(name if exact else bound_name, value)
        (self._asked if exact else self._bounds)[name] = value
        return value, exact

    def _cached(self, name: str) -> float | None:
        return None if self._kept is None else self._kept.get(name)

    def _cache(self, name: str, value: float) -> None:
        if self._kept is not None:
            self._kept.put(name, value)


def fitted_windows(
    observed: Observed | None,
    about: Mapping[str, Any],
    windows: Sequence[Window],
    fit: Callable[[], tuple[dict[Window, State], float]],
    device: torch.device,
) -> tuple[dict[Window, State], float]:
    """The states of windows and the similarity that `fit` gives, from the cache where it has them.

    Args:
        observed: The cache, None where nothing is kept.
        about: What they depend on besides the model, the text and the windows.
        windows: Ascending and disjoint.
        fit: Computes both.
        device: Where the states of the cache are put.
    """
    if observed is None:
        return fit()

    def observation() -> Observation:
        states, similarity = fit()
        tensors = {f"{i} {key}": value for i, window in enumerate(windows) for key, value in states[window].items()}
        return Observation(tensors, {"similarity": similarity})

    spans = [[window.first, window.last, window.keep] for window in windows]
    kept = observed.observation({"what": "fitted windows", "windows": spans, **about}, observation)
    states: dict[Window, dict[str, torch.Tensor]] = {}
    for name, tensor in kept.tensors.items():
        index, _, key = name.partition(" ")
        states.setdefault(windows[int(index)], {})[key] = tensor.to(device)
    return dict(states), float(kept.facts["similarity"])
