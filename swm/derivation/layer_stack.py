"""Where a model keeps its layers, and what stands between the last one and the vocabulary projection: from one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from swm.errors import FamilyError
from swm.model.hidden_states import first_tensor, split_hidden

Hook = Callable[..., Any]


class _Call(NamedTuple):
    path: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@contextmanager
def hooked(pairs: Iterable[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Inside the block, each hook is called after its module has run, with `(module, args, kwargs, output)`."""
    handles = [module.register_forward_hook(hook, with_kwargs=True) for module, hook in pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def find_stack(model: Any, ids: Tensor) -> tuple[str, tuple[str, ...]]:
    """Find the list of layers and the tail of a model.

    Args:
        model: A causal language model.
        ids: Tokens `[samples, seq]`.

    Returns:
        The path of the longest list of modules that all run, one on the output of the other, and the paths of what
        runs between the last one and the vocabulary projection.

    Raises:
        FamilyError: There is no such list, or something happens between the layers.
    """
    calls: list[_Call] = []
    named = [(path, module) for path, module in model.named_modules() if path]
    hooks = [(module, lambda m, a, k, o, path=path: calls.append(_Call(path, m, a, k, o))) for path, module in named]
    with hooked(hooks):
        model(input_ids=ids, use_cache=False)
    last = {id(call.module): number for number, call in enumerate(calls)}
    stacks = [
        (len(module), path)
        for path, module in named
        if isinstance(module, nn.ModuleList) and len(module) > 1 and all(id(layer) in last for layer in module)
    ]
    if not stacks:
        raise FamilyError("it has no list of layers that all run")
    path = max(stacks)[1]
    layers = model.get_submodule(path)
    runs = [calls[last[id(layer)]] for layer in layers]
    _check_chain(runs)
    head = model.get_output_embeddings()
    if head is None or id(head) not in last:
        raise FamilyError("its class does not say which module the vocabulary projection is")
    body = path.rpartition(".")[0]
    between = calls[last[id(layers[-1])] + 1 : last[id(head)]]
    after = [call.path for call in between if call.path.startswith(f"{body}.")]
    return path, tuple(name for name in after if not any(name.startswith(f"{other}.") for other in after))


def _check_chain(runs: list[_Call]) -> None:
    """Raise FamilyError unless each layer is given what the one before it returned."""
    inputs = [split_hidden(call.args, call.kwargs)[0] for call in runs]
    outputs = [first_tensor(call.output) for call in runs]
    if inputs[0].dim() != 3:
        raise FamilyError(f"its layers take {list(inputs[0].shape)}, not [samples, seq, hidden]")
    if not all(torch.equal(given, taken) for given, taken in zip(outputs, inputs[1:], strict=False)):
        raise FamilyError("something is done between its layers")


def check_causal(model: Any, ids: Tensor) -> None:
    """Raise FamilyError for a model whose scores of a token depend on later ones: an encoder."""
    other = ids[:1].clone()
    other[0, -1] = ids[0, 0]
    with torch.no_grad():
        one, two = (model(input_ids=each, use_cache=False).logits[0, : ids.shape[1] // 2] for each in (ids[:1], other))
    if not torch.allclose(one, two, atol=1e-4 * float(one.abs().max())):
        raise FamilyError("it is an encoder: its scores of a token depend on later tokens")
