"""A pretend accelerator: tensors on it are computed by the CPU, and no operation takes them together with others.

It is registered as torch's own extension device `pretend`, so `tensor.device`, `.to(device)` and
`torch.zeros(device=..)` mean what they mean for a GPU, and so does what torch refuses: two devices in one operation, a
generator of another device, an array of numpy over a tensor of the device. What torch takes is taken: single numbers
of the CPU in pointwise operations, indexing by tensors of the CPU, and copies.

A process is changed by it for good: use it in one of its own (see `device_jobs.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "pretend"
ATEN = torch.ops.aten

# Take tensors of several devices, and say by their arguments where the result is.
COPIES = {ATEN.copy_.default, ATEN._to_copy.default}
# Take indices from the CPU.
INDEXING = {
    ATEN.index.Tensor,
    ATEN.index_put.default,
    ATEN.index_put_.default,
    ATEN._index_put_impl_.default,
    ATEN._unsafe_index.Tensor,
}
# Take one number of the CPU as the value, without being pointwise.
VALUES = {
    *(ATEN.masked_fill.Tensor, ATEN.masked_fill_.Tensor, ATEN.fill.Tensor, ATEN.fill_.Tensor),
    *(ATEN.index_fill.int_Tensor, ATEN.index_fill_.int_Tensor),
}
# Lists whose members belong together one by one: optimizers count their steps on the CPU.
LISTS = "_foreach_"


class MixedDevicesError(RuntimeError):
    """Tensors of two devices in one operation."""


# What was mixed by threads of the autograd engine, which end the process where one raises.
_mixed_behind: list[str] = []


class PretendTensor(torch.Tensor):
    """A tensor on the pretend device; `held` has its numbers."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> PretendTensor:
        made: PretendTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy")
        return self.detach().cpu().numpy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.numpy()

    def __repr__(self, **_: Any) -> str:
        return f"{self.held!r} on {NAME}"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else repr(self)

    def __deepcopy__(self, memo: Any) -> Tensor:
        made: Tensor = PretendTensor(self.held.clone())
        if isinstance(self, torch.nn.Parameter):
            made = torch.nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        return made

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, PretendTensor):
            raise MixedDevicesError(f"a tensor on {value.device} in place of the data of one on {NAME}")
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.held = value.held


class _Pretending(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class _Module(backend_registration._DummyBackendModule):
    """`torch.pretend`: there while tests pretend."""

    available = False

    def is_available(self) -> bool:
        return self.available

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = 0) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = 0) -> None:
        torch.set_rng_state(state)


class _Hook(backend_registration._DummyPrivateUse1Hook):
    def is_available(self) -> bool:
        return True


def register() -> None:
    """Make the device known to torch; once in a process, and before anything is differentiated."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module(), _Hook())


@contextmanager
def pretending() -> Iterator[torch.device]:
    """The accelerator of this machine is the pretend one for as long as the block runs."""
    module: Any = getattr(torch, NAME)
    module.available = True
    apply = torch.nn.Module._apply

    def apply_and_tie(module: torch.nn.Module, *args: Any, **options: Any) -> torch.nn.Module:
        """Keeps parameters one that are one; a real device changes them in place."""
        owners = [(one, name, value) for one in module.modules() for name, value in one._parameters.items()]
        places = [(one, name, id(value)) for one, name, value in owners if value is not None]
        apply(module, *args, **options)
        moved: dict[int, Any] = {}
        for one, name, before in places:
            one._parameters[name] = moved.setdefault(before, one._parameters[name])
        return module

    # `torch.tensor(.., device=..)` makes its tensor on the CPU and moves it by an operation.
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Pretending(), mock.patch.object(torch.nn.Module, "_apply", apply_and_tie):
            yield torch.device(NAME, 0)
            raise_mixed_behind()
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        module.available = False


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The result of an operation of torch, on the device where torch would give it."""
    if func is ATEN._fused_sdp_choice.default:
        return 0  # the formula: no kernel of the device
    flat = pytree.tree_leaves((args, kwargs))
    ours = [one for one in flat if isinstance(one, PretendTensor)]
    wanted = kwargs.get("device")
    wanted = None if wanted is None else torch.device(wanted)
    if not ours and (wanted is None or wanted.type != NAME):
        return func(*args, **kwargs)
    if func not in COPIES:
        mixed = _mixed(func, args, kwargs)
        if mixed and threading.current_thread() is not threading.main_thread():
            _mixed_behind.append(f"{mixed}, in backward")
        elif mixed:
            raise MixedDevicesError(mixed)
    raise_mixed_behind()
    result_ours = bool(ours) if wanted is None else wanted.type == NAME
    if func is ATEN.copy_.default:
        result_ours = isinstance(args[0], PretendTensor)
    known = {id(one.held): one for one in ours}
    inner_args, inner_kwargs = pytree.tree_map(_held, (args, kwargs))
    if wanted is not None and wanted.type == NAME:
        inner_kwargs["device"] = torch.device("cpu")
    if func is ATEN.histc.default:
        # The CPU counts floats alone, and a GPU whole numbers too.
        result = func(inner_args[0].float(), *inner_args[1:], **inner_kwargs).to(inner_args[0].dtype)
    else:
        result = func(*inner_args, **inner_kwargs)
    if wanted is not None and wanted.type != NAME and isinstance(result, Tensor) and id(result) in known:
        result = result.clone()

    def placed(one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        if id(one) in known:
            return known[id(one)]
        return PretendTensor(one) if result_ours else one

    return pytree.tree_map(placed, result)


def _held(one: Any) -> Any:
    return one.held if isinstance(one, PretendTensor) else one


def raise_mixed_behind() -> None:
    """Raise MixedDevicesError in the main thread for what another one did."""
    if _mixed_behind and threading.current_thread() is threading.main_thread():
        mixed = "; ".join(_mixed_behind)
        _mixed_behind.clear()
        raise MixedDevicesError(mixed)


def _mixed(func: Any, args: Any, kwargs: dict[str, Any]) -> str:
    """What a GPU would refuse in this operation; empty where it takes it."""
    name = str(func)
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != NAME:
        return f"{name}: a generator of {generator.device} for a tensor of {NAME}"
    if LISTS in name:
        lists = [one for one in args if isinstance(one, (list, tuple))]
        groups: list[list[Any]] = [list(group) for group in zip(*lists, strict=False)]
    else:
        groups = [pytree.tree_leaves((args, kwargs))]
    for group in groups:
        others = [one for one in group if _is_other(one)]
        if func in INDEXING and isinstance(args[0], PretendTensor):
            others = [one for one in args[2:3] if _is_other(one)]
        if torch.Tag.pointwise in func.tags or func in VALUES or func in INDEXING or LISTS in name:
            others = [one for one in others if one.dim() or one is args[0]]
        if others and any(isinstance(one, PretendTensor) for one in group):
            shapes = [f"{list(one.shape)} on {one.device}" for one in group if isinstance(one, Tensor)]
            return f"{name}: tensors of two devices: {', '.join(shapes)}"
    return ""


def _is_other(one: Any) -> bool:
    return isinstance(one, Tensor) and not isinstance(one, PretendTensor)
