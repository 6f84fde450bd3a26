"""What must stand in place of a sub-block: seen in a run of its layer with the block's parameters at zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call  # type: ignore[attr-defined,unused-ignore]

from swm.errors import FamilyError, brief
from swm.model.blocks import Removal, RemovedModule, block_modules, reader_path, without
from swm.model.hidden_states import first_tensor
from swm.model.layer import Layer
from swm.model.recording import LayerCall
from swm.model.units import READERS, Block
from swm.model.view import ModelView

# A few tokens show how a layer is built.
TOKENS = 16
TOLERANCE = 1e-5


class Seen(NamedTuple):
    """What a module was given, and returned: the first value, and how many there were, 0 for a tensor alone."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor
    returns: int


@dataclass(frozen=True)
class LayerProbe:
    """A layer with the hidden states `[1, seq, hidden]` and the other arguments of a run."""

    layer: Layer
    call: LayerCall
    hidden: Tensor

    def removal(self, part: Block) -> Removal:
        """What stands in place of a sub-block's modules, its norms left as they are.

        Raises FamilyError where the layer without them is not the layer with the part's parameters at zero.
        """
        paths = block_modules(self.layer.module, self.layer.family)[part]
        try:
            output, seen = self._silenced(paths)
            removal = {path: self._stand_in(part, path, paths, seen[path]) for path in paths}
            again = self._without(removal)
        except Exception as error:  # each layer fails in its own way on what it was not made for
            raise FamilyError(f"{self._said(part)}: {type(error).__name__}: {brief(error)}") from None
        if not torch.allclose(again, output, atol=TOLERANCE * float(output.abs().max()), rtol=0):
            raise FamilyError(f"{self._said(part)}: something else in the layer adds to it")
        return removal

    def with_norms(self, removal: Removal) -> dict[str, RemovedModule]:
        """The removal, and with it the norms that nothing reads any more.

        A norm behind a removed block goes too where it makes zero of zeros; one with a bias stays.
        """
        norms = self._idle_norms(removal)
        more = {**removal, **{path: RemovedModule(gives=0) for path in norms}}
        try:
            same = torch.equal(self._without(more), self._without(removal))
        except Exception:  # a layer may read its norm without calling it
            same = False
        return more if same else dict(removal)

    @torch.no_grad()
    def _without(self, removal: Removal) -> Tensor:
        with without(self.layer.module, removal):
            return self.layer.run(self.call, self.hidden)

    @torch.no_grad()
    def _silenced(self, paths: Sequence[str]) -> tuple[Tensor, dict[str, Seen]]:
        """What the layer gives with the parameters of these modules at zero, and what each was given and returned."""
        module, seen, handles = self.layer.module, dict[str, Seen](), []
        zeros = {
            key: torch.zeros_like(value)
            for key, value in module.named_parameters()
            if any(key.startswith(f"{path}.") for path in paths)
        }
        for path in paths:

            def note(*call: Any, path: str = path) -> None:
                _, args, kwargs, output = call
                # The layer may write into it.
                first = first_tensor(output, f"the modules {path} of its layers").clone()
                seen[path] = Seen(args, kwargs, first, len(output) if isinstance(output, tuple) else 0)

            handles.append(module.get_submodule(path).register_forward_hook(note, with_kwargs=True))
        try:
            output = functional_call(module, zeros, (self.hidden, *self.call.args), dict(self.call.kwargs))
        finally:
            for handle in handles:
                handle.remove()
        return first_tensor(output), seen

    def _stand_in(self, part: Block, path: str, paths: Sequence[str], seen: Seen) -> RemovedModule:
        hidden = next(value for value in (*seen.args, *seen.kwargs.values()) if isinstance(value, Tensor))
        reader = reader_path(self.layer.family, part, paths)
        bare = hasattr(self.layer.module.get_submodule(path), "weight")
        if bare and path != reader:
            # A projection of the layer itself whose output only the removed one reads.
            return RemovedModule(gives=0)
        width = seen.output.shape[-1]
        kept: Literal["keys", "states"] = "keys" if self.layer.has(READERS[part]) and path == reader else "states"
        return RemovedModule(
            returns=seen.returns or None,
            gives=_given(seen.output, seen.args, seen.kwargs),
            width=width if width != hidden.shape[-1] else None,
            cache=kept if part == "attention" else None,
        )

    def _idle_norms(self, removal: Removal) -> list[str]:
        """Modules besides the sub-blocks whose parameters have no influence on what the layer without these gives."""
        module = self.layer.module
        blocks = {path for paths in block_modules(module, self.layer.family).values() for path in paths}
        inside = tuple(f"{path}." for path in blocks)
        leaves = {
            key: value.detach().clone().requires_grad_()
            for key, value in module.named_parameters()
            if value.is_floating_point() and value.dim() <= 1 and not key.startswith(inside) and "." in key
        }
        if not leaves:
            return []
        with torch.enable_grad(), without(module, removal):
            output = first_tensor(
                functional_call(module, leaves, (self.hidden, *self.call.args), dict(self.call.kwargs))
            )
            weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
            gradients = (
                torch.autograd.grad((output * weight).sum(), list(leaves.values()), allow_unused=True)
                if output.requires_grad
                else [None] * len(leaves)
            )
        used = {
            key.rpartition(".")[0]
            for key, gradient in zip(leaves, gradients, strict=True)
            if gradient is not None and bool(gradient.any())
        }
        return sorted({key.rpartition(".")[0] for key in leaves} - used)

    def _said(self, part: Block) -> str:
        return f"the {part} of layer {self.layer.number} cannot be removed alone"


def _given(output: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | str | None:
    """The argument that a silenced block gives back; None for one that gives zeros."""
    if not output.any():
        return None
    named: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    for name, value in named:
        if isinstance(value, Tensor) and value.shape == output.shape and torch.equal(value, output):
            return name
    raise FamilyError("with all of its parameters at zero it gives something else")


def layer_probes(view: ModelView, ids: Tensor) -> list[LayerProbe]:
    """A probe of every layer, from a run of the first tokens of a text `[samples, seq]`."""
    recording = view.record(ids[:1, :TOKENS], only_first=True)
    hidden = recording.states[0]
    return [LayerProbe(view.layer(i), recording.calls[0][i], hidden) for i in range(len(view.layers))]
