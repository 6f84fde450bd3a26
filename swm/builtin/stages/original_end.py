"""OriginalEnd: what leaves a model's last layer, run for samples when they are first asked for."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from swm.builtin.stages.inner_states import InnerStates
from swm.depth.some_samples import SomeSamples
from swm.model.finite import check_finite
from swm.model.view import ModelView
from swm.training.layer_training import LayerTraining

ORIGINAL_END = "end of the original"
"""Its name in `StageContext.shared`."""


@dataclass(frozen=True)
class KnownEnd:
    """States `[samples, seq, hidden]`, of which the rows that are `done` are those at the model's end.

    It stays in memory for later stages of the run: `ids` are the text, and `about` says how it was run. `inner` has
    what was kept on the way.
    """

    states: Tensor
    done: Tensor
    ids: Tensor
    about: tuple[Any, ...]
    inner: dict[int, Tensor] = field(default_factory=dict)


class OriginalEnd:
    """Stands for a tensor `[samples, seq, hidden]`: rows are asked for by their numbers."""

    def __init__(
        self,
        dense: ModelView,
        some: SomeSamples,
        known: KnownEnd,
        first: int,
        how: LayerTraining,
        inner: InnerStates | None,
    ) -> None:
        """Nothing is run yet.

        Args:
            dense: The model.
            some: Runs its layers, whose other arguments do not differ from sample to sample.
            known: What enters the layer `first` in the rows that are not done. They are written over.
            first: The position of the lowest layer that is still to be run.
            how: Knows how matrices are multiplied.
            inner: Gets what is on the way.
        """
        self._inner = inner
        self._known, self._dense, self._some, self._first, self._how = known, dense, some, first, how

    @classmethod
    def of(
        cls,
        dense: ModelView,
        some: SomeSamples,
        entering: Tensor,
        first: int,
        shared: MutableMapping[str, Any],
        how: LayerTraining,
        inner: InnerStates | None = None,
    ) -> OriginalEnd:
        """With the rows that an earlier stage asked for, of the same text and in the same way.

        Args:
            dense, some, first, how, inner: As above.
            entering: What enters the layer `first`, `[samples, seq, hidden]`.
            shared: What earlier stages left; gets what this one asks for.
        """
        ids = some.recording.ids
        about = (how.bf16, entering.dtype, entering.device, len(dense.layers), None if inner is None else first)
        known = shared.get(ORIGINAL_END)
        if not isinstance(known, KnownEnd) or known.about != about or not torch.equal(known.ids, ids):
            # The compressed model's stream may be the same tensor, and must stay.
            known = KnownEnd(entering.clone(), torch.zeros(len(entering), dtype=torch.bool), ids, about)
        else:
            known.states[~known.done] = entering[~known.done]
        shared[ORIGINAL_END] = known
        if inner is not None:
            known.inner.update(inner.states)
            inner.states = known.inner
        return cls(dense, some, known, first, how, inner)

    def __len__(self) -> int:
        return len(self._known.states)

    @property
    def device(self) -> torch.device:
        return self._known.states.device

    @torch.no_grad()
    def __getitem__(self, rows: Tensor) -> Tensor:
        """The states of some samples, all different and few enough to be run together.

        Raises ModelError where a layer gives what is no number.
        """
        states, done = self._known.states, self._known.done
        missing = rows[~done[rows.to(done.device)].to(rows.device)]
        if len(missing):
            hidden = states[missing]
            for position in range(self._first, len(self._dense.layers)):
                with self._how.products(hidden.device):
                    hidden = self._some.run(missing, hidden, position).to(states.dtype)
                check_finite(hidden, f"the output of layer {position} of the original model holds")
                if self._inner is not None:
                    self._inner.keep(position, missing, hidden, len(self))
            states[missing] = hidden
            done[missing.to(done.device)] = True
        return states[rows]
