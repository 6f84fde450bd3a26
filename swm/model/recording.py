"""Recordings: what each layer of a model was given and what it returned."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from swm.errors import FamilyError
from swm.memory.working_memory import WorkingMemory
from swm.model.families import ModelFamily
from swm.model.hidden_states import first_tensor, split_hidden
from swm.model.reading import read_batch
from swm.model.row_store import RowStore
from swm.model.samples import Samples
from swm.model.shared_arguments import SharedArguments
from swm.shown.values import short_repr

# What the layers of one run have handed on to later ones in each argument that is there for that.
Carried = dict[str, dict[Any, Any]]


@dataclass(frozen=True)
class LayerCall:
    """The arguments of one layer in one batch, without the hidden states.

    `added` is what the model adds to the layer's output before the next layer reads it: features of an image.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    added: Tensor | None = None

    __repr__ = short_repr

    def same(self, other: LayerCall) -> bool:
        """Whether both have the very same arguments, not equal ones."""
        return _same(self.args, other.args) and _same(dict(self.kwargs), dict(other.kwargs))

    def shared(self) -> list[str]:
        """The arguments in which layers hand things on to later ones."""
        return [name for name, value in self.kwargs.items() if isinstance(value, MutableMapping)]

    def arguments(self, carried: Carried) -> dict[str, Any]:
        """The keyword arguments for one run, with what earlier layers of that run handed on."""
        own = {name: _own(value) for name, value in self.kwargs.items()}
        for name in self.shared():
            own[name].update(carried.get(name, {}))
        return own


def _same(value: Any, other: Any) -> bool:
    """Whether two values are one, or tuples or plain dictionaries of such."""
    if type(value) is not type(other):
        return False
    if type(value) is tuple:
        return len(value) == len(other) and all(map(_same, value, other))
    if type(value) is dict:
        return value.keys() == other.keys() and all(_same(item, other[name]) for name, item in value.items())
    return value is other or (isinstance(value, int | float | str) and bool(value == other))


def _own(value: Any) -> Any:
    """The value, a copy of it where layers write into it."""
    return copy.copy(value) if isinstance(value, MutableMapping) else value


@dataclass
class Recording:
    """What one forward pass over the text leaves behind.

    `states[i]` are the hidden states `[samples, seq, hidden]` that enter layer i, and `states[layers]` what leaves
    the last one (before the tail), unless only the first were kept. `calls[batch][i]` are the arguments of layer i,
    `rows[batch]` its samples.
    """

    samples: Samples
    mask: Tensor | None
    states: list[Tensor]
    calls: list[list[LayerCall]]
    rows: list[slice]

    __repr__ = short_repr

    @property
    def ids(self) -> Tensor:
        """The tokens, `[samples, seq]`."""
        return self.samples.ids


@torch.no_grad()
def record_run(
    model: nn.Module,
    family: ModelFamily,
    text: Tensor | Samples,
    mask: Tensor | None,
    rows: Sequence[slice],
    only_first: bool,
    memory: WorkingMemory,
) -> Recording:
    """Run the body of a model once over a text and keep what is needed to run any layer again.

    Args:
        model: The causal language model; its vocabulary projection is not run.
        family: The family row of the model.
        text: Tokens `[samples, seq]`, or samples of which some hold an image.
        mask: `[samples, seq]`, 0 for padding; None where there is none.
        rows: The samples of each batch.
        only_first: Keep the hidden states that enter the first layer, and no others. Layers that return nothing else
            are then run on the first batch alone.
        memory: Decides where the hidden states are kept.

    Returns:
        The recording. Whether its numbers are finite is not checked here.

    Raises:
        FamilyError: The body does not run each layer once, or does between them what no row says.
    """
    samples = Samples.of(text)
    recorder = LayerRecorder(family.layers_of(model), only_first, len(samples), memory)
    for row in rows:
        batch = samples[row]
        # What is added behind a layer is known to the last digit only behind what the layer gives.
        with recorder.batch(row, whole=bool(batch.images and family.bound_first)) as calls:
            read_batch(model, family, batch, None if mask is None else mask[row])
        if len(calls) != len(recorder.layers):
            raise FamilyError(f"{family.layers} has {len(recorder.layers)} layers, {len(calls)} were run")
        if any(call.added is not None for call in calls) and not family.bound_first:
            raise FamilyError(f"{family.body_of(model).__class__.__name__} changes hidden states between its layers")
    return Recording(samples, mask, recorder.states(), recorder.calls, list(rows))


class LayerRecorder:
    """Keeps what each layer is given, and what the last one returns, while a model runs batch after batch."""

    def __init__(self, layers: nn.ModuleList, only_first: bool, samples: int, memory: WorkingMemory) -> None:
        """Nothing is run.

        Args:
            layers: The layers.
            only_first: Keep what enters the first of them, and nothing else.
            samples: How many samples all batches have.
            memory: Decides where the hidden states are kept.
        """
        self.layers = layers
        self.only_first = only_first
        self.calls: list[list[LayerCall]] = []
        # By boundary between layers, all samples.
        self._states: list[RowStore] = [RowStore(samples, memory) for _ in range(len(layers) + 1)]
        self._rows = slice(0)
        self._memory = memory
        self._arguments = SharedArguments(memory)
        self._plain: list[bool] = []
        self._output: Tensor | None = None

    @contextmanager
    def batch(self, rows: slice, whole: bool = False) -> Iterator[list[LayerCall]]:
        """The calls of the layers that run inside the block, on these samples; `whole` has them run in any case."""
        self._rows = rows
        calls: list[LayerCall] = []
        self.calls.append(calls)
        self._arguments.begin()
        passing = not whole and self.only_first and bool(self._plain) and all(self._plain)
        with pass_through(self.layers) if passing else nullcontext():
            handles = [layer.register_forward_pre_hook(self._before, with_kwargs=True) for layer in self.layers]
            handles += [layer.register_forward_hook(self._after) for layer in self.layers]
            try:
                yield calls
            finally:
                for handle in handles:
                    handle.remove()
                self._output = None

    def states(self) -> list[Tensor]:
        """The hidden states `[samples, seq, hidden]` at each boundary that was kept."""
        return [store.tensor for store in self._states if store.tensor is not None]

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls = self.calls[-1]
        hidden, args, kwargs = split_hidden(args, kwargs)
        if calls and hidden is not self._output and self._output is not None:
            calls[-1] = replace(calls[-1], added=self._difference(hidden, self._output))
        if not (calls and self.only_first):
            self._states[len(calls)].put(self._rows, hidden)
        # What layers hand on in such an argument is kept as this one found it.
        own = {name: _own(value) for name, value in kwargs.items()}
        place = str(len(calls))
        call = LayerCall(self._arguments.kept(place, args), self._arguments.kept(place, own))
        # A long text has many batches, and a call of each layer in each of them.
        first = self.calls[0][len(calls) : len(calls) + 1] if calls is not self.calls[0] else []
        calls.append(first[0] if first and call.same(first[0]) else call)

    def _difference(self, hidden: Tensor, output: Tensor) -> Tensor | None:
        """What was added to a layer's output, in float32 or wider; None for nothing."""
        if torch.equal(hidden, output):
            return None
        wide = torch.promote_types(hidden.dtype, torch.float32)
        return self._memory.keep(hidden.to(wide) - output.to(wide))

    def _after(self, module: nn.Module, args: Any, output: Any) -> None:
        self._output = first_tensor(output)
        self._plain.append(isinstance(output, Tensor) and not self.calls[-1][-1].shared())
        if module is self.layers[-1] and not self.only_first:
            self._states[-1].put(self._rows, first_tensor(output))


@contextmanager
def pass_through(layers: nn.ModuleList) -> Iterator[None]:
    """Layers that return the hidden states that they are given."""
    # What places a model on several devices sets a forward of its own.
    own = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        layer.forward = lambda *args, **kwargs: split_hidden(args, kwargs)[0]
    try:
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward
