"""What the pretend device must refuse, and what it must take: as torch on a GPU does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from pretend_device import MixedDevicesError, pretending, raise_mixed_behind
from torch import Tensor

# Of a tensor `[4, 4]` on the device, and the same on the CPU.
Use = Callable[[Tensor, Tensor], Any]
ROW = torch.tensor([0, 2])
REFUSED: Mapping[str, Use] = {
    "a sum": lambda ours, other: ours + torch.arange(4),
    "a sum in place": lambda ours, other: ours.mul_(other),
    "a sum into the CPU": lambda ours, other: other.add_(ours.sum()),
    "a product": lambda ours, other: ours @ other,
    "rows by a list of the CPU": lambda ours, other: ours.index_select(0, ROW),
    "rows of the CPU by a list of the device": lambda ours, other: other[ROW.to(ours.device)],
    "values into rows": lambda ours, other: ours.index_put_((ROW,), other[ROW]),
    "numbers at places": lambda ours, other: ours.gather(1, other.long()),
    "a mask": lambda ours, other: ours.masked_fill(other > 0, 0),
    "one of two": lambda ours, other: torch.where(ours > 0, ours, other),
    "one behind the other": lambda ours, other: torch.cat([ours, other]),
    "embeddings": lambda ours, other: F.embedding(ROW, ours),
    "a loss": lambda ours, other: F.cross_entropy(ours, torch.arange(4)),
    "equality": lambda ours, other: torch.equal(ours, other),
    "random numbers of another generator": lambda ours, other: ours.normal_(generator=torch.Generator()),
    "an order of another generator": lambda ours, other: torch.randperm(
        4, device=ours.device, generator=torch.Generator()
    ),
    "other data": lambda ours, other: setattr(ours, "data", other),
    "an array": lambda ours, other: ours.numpy(),
    "many at once": lambda ours, other: torch._foreach_add([ours], [other]),
    "backward through a product": lambda ours, other: (ours.requires_grad_() * ours).backward(other),
}
TAKEN: Mapping[str, Use] = {
    "one number": lambda ours, other: ours * torch.tensor(2.0),
    "one number for a mask": lambda ours, other: ours.masked_fill(ours > 0, torch.tensor(1.0)),
    "places of the CPU": lambda ours, other: ours[ROW],
    "places of the CPU to write to": lambda ours, other: ours.__setitem__(ROW, torch.tensor(0.0)),
    "a row of the CPU to write": lambda ours, other: ours.__setitem__(0, other[0]),
    "copies": lambda ours, other: other.copy_(ours).to(ours) + ours,
    "numbers for Python": lambda ours, other: (ours.tolist(), float(ours.sum()), bool((ours > 0).all())),
    "new ones": lambda ours, other: torch.tensor([1.0] * 4, device=ours.device) + ours.new_zeros(4) + ours,
    "lists of each": lambda ours, other: torch._foreach_add([ours, other], [ours, other]),
}


def broken_rules() -> list[str]:
    """What the pretend device takes or refuses wrongly, in sentences."""
    wrong = []
    with pretending() as device:
        for name, use in {**REFUSED, **TAKEN}.items():
            other = torch.ones(4, 4)
            try:
                use(other.to(device), other)
                raise_mixed_behind()
                refused = False
            except (MixedDevicesError, TypeError, RuntimeError):
                refused = True
            if refused != (name in REFUSED):
                wrong.append(f"{name}: {'refused' if refused else 'taken'}")
    return wrong


@contextmanager
def planted_fault(name: str) -> Iterator[None]:
    """A mistake in swm that no CPU shows."""
    target, fault = PLANTED[name]
    with mock.patch(target, fault):
        yield


def _scores_with_numbers_of_the_cpu(pruner: Any, group: Any) -> Tensor:
    weight: Tensor = group.reader.weight
    return group.per_unit(weight.float().abs().mean(dim=1) * torch.ones(weight.shape[0]))  # type: ignore[no-any-return]


def _states_in_memory_of_the_cpu(store: Any, rows: slice, values: Tensor) -> None:
    store.tensor = values.cpu()


PLANTED: Mapping[str, tuple[str, Any]] = {
    "depth, then width": ("swm.pruners.wanda.Wanda.score", _scores_with_numbers_of_the_cpu),
    "fits": ("swm.model.row_store.RowStore.put", _states_in_memory_of_the_cpu),
}
