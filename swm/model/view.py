"""ModelView: a causal language model seen as an embedding, a stack of layers and a tail.

Nothing here knows a model family: a layer is run with the arguments (masks, positions, caches) that the model itself
passed to it, recorded once, so a sliding-window mask or a second rotary table follows its layer wherever it goes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call  # type: ignore[attr-defined,unused-ignore]

from swm.errors import FamilyError, ModelError
from swm.model.families import ModelFamily
from swm.model.finite import check_finite, check_states
from swm.model.head import BodyOutput
from swm.model.recording import (
    LayerCall,
    Recording,
    _passed_on,
    batch_rows,
    first_tensor,
    split_hidden,
)
from swm.model.replacement import Replaced

# So many tokens, spread over the text, tell whether a model answers at all.
SOME_TOKENS = 16


class ModelView:
    """A model and its family row. It owns no copy of anything.

    `numbers[i]` is the number that layer i had in the original model, `ends[i]` the original layer whose output its
    own stands for: the last one of what was merged into it. `replaced[i]` tells of the modules in layer i, by their
    path, that stand in place of a projection.
    """

    def __init__(self, model: nn.Module, family: ModelFamily) -> None:
        self.model = model.eval()
        self.family = family
        self.numbers = list(range(len(self.layers)))
        self.ends = list(self.numbers)
        self.replaced: list[dict[str, Replaced]] = [{} for _ in self.numbers]
        if not len(self.layers):
            raise FamilyError(f"the model has no layers in {family.layers} (num_hidden_layers: 0); nothing can be done")
        if len(self.layers) != self.config.num_hidden_layers:
            raise FamilyError(
                f"config says {self.config.num_hidden_layers} layers, {family.layers} has {len(self.layers)}"
            )

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def layers(self) -> nn.ModuleList:
        found = self.model.get_submodule(self.family.layers)
        assert isinstance(found, nn.ModuleList)
        return found

    @property
    def body(self) -> nn.Module:
        """The module that owns the layers: token ids in, what the vocabulary projection reads out."""
        return self.model.get_submodule(self.family.layers.rpartition(".")[0])

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return next(self.model.parameters()).dtype

    def parameters(self) -> int:
        """The number of parameters, tied ones once."""
        return sum(p.numel() for p in self.model.parameters())

    def layer_parameters(self) -> list[int]:
        """The number of parameters of each layer."""
        return [sum(p.numel() for p in layer.parameters()) for layer in self.layers]

    def state(self, position: int) -> dict[str, Tensor]:
        """The parameters of a layer under canonical names; the tensors are the model's own."""
        return {self.family.canonical(k): p.detach() for k, p in self.layers[position].named_parameters()}

    @torch.no_grad()
    def record(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        batch_size: int | None = None,
        only_first: bool = False,
        batches: int = 1,
    ) -> Recording:
        """Run the model once over `ids` `[samples, seq]` and keep what is needed to run any layer again.

        The vocabulary projection is not run. `mask` is `[samples, seq]`, 0 for padding. Of all hidden
        states, `only_first` keeps those that enter the first layer; layers that return nothing else are then run on
        the first batch alone. Batches are as large as they may be, or all of `batch_size`; without one there are at
        least `batches`, where none of them gets too small for that.
        Raises ModelError where what is kept is not finite, and where the model answers the same whatever it reads.
        """
        layers = self.layers
        parts: list[list[Tensor]] = [[] for _ in range(len(layers) + 1)]
        calls: list[list[LayerCall]] = []
        rows = batch_rows(len(ids), ids.shape[1], batch_size=batch_size, batches=batches)
        plain: list[bool] = []
        for row in rows:
            batch: list[LayerCall] = []

            def before(
                module: nn.Module,
                args: tuple[Any, ...],
                kwargs: dict[str, Any],
                batch: list[LayerCall] = batch,
            ) -> None:
                hidden, args, kwargs = split_hidden(args, kwargs)
                if not (batch and only_first):
                    parts[len(batch)].append(hidden)
                batch.append(LayerCall(args, kwargs))

            def after(module: nn.Module, args: Any, output: Any) -> None:
                plain.append(isinstance(output, Tensor))
                if module is layers[-1] and not only_first:
                    parts[-1].append(first_tensor(output))

            with _passed_on(layers) if only_first and plain and all(plain) else nullcontext():
                handles = [layer.register_forward_pre_hook(before, with_kwargs=True) for layer in layers]
                handles += [layer.register_forward_hook(after) for layer in layers]
                try:
                    self.body(
                        input_ids=ids[row].to(self.device),
                        attention_mask=None if mask is None else mask[row].to(self.device),
                        use_cache=False,
                    )
                finally:
                    for handle in handles:
                        handle.remove()
            if len(batch) != len(layers):
                raise FamilyError(f"{self.family.layers} has {len(layers)} layers, {len(batch)} were run")
            calls.append(batch)
        states = [part[0] if len(part) == 1 else torch.cat(part) for part in parts if part]
        check_states(states, self.numbers)
        if not only_first:
            self._check_answers(ids, states[-1])
        return Recording(ids, mask, states, calls, rows)

    def _check_answers(self, ids: Tensor, end: Tensor) -> None:
        """Raise ModelError where the scores of some tokens are not finite, or the same for all of them."""
        tokens = end.flatten(0, 1)
        some = torch.linspace(0, len(tokens) - 1, min(SOME_TOKENS, len(tokens))).long()
        logits = self.logits(tokens[some.to(tokens.device)][None])[0]
        check_finite(logits, "the next-token scores hold", end.dtype)
        if len(set(ids.flatten()[some].tolist())) > 1 and bool((logits == logits[0]).all()):
            raise ModelError(
                "the model's next-token scores are the same whatever it reads, so nothing can be compared or ranked; "
                "its weights are damaged"
            )

    @torch.no_grad()
    def run_layer(
        self, recording: Recording, position: int, hidden: Tensor, state: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Run the layer at `position` on all samples, with its own parameters or with `state` (canonical names)."""
        outputs = [
            self.run_batch(recording, batch, position, hidden[rows], state) for batch, rows in enumerate(recording.rows)
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    @torch.no_grad()
    def run_watched(
        self,
        recording: Recording,
        position: int,
        hidden: Tensor,
        role: str,
        state: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `run_layer`, with what enters the projection of that canonical name, `[samples, seq, channels]`."""
        parts = [
            self.watch_batch(recording, batch, position, hidden[rows], role, state)
            for batch, rows in enumerate(recording.rows)
        ]
        return torch.cat([output for output, _ in parts]), torch.cat([inputs for _, inputs in parts])

    @torch.no_grad()
    def watch_batch(
        self,
        recording: Recording,
        batch: int,
        position: int,
        hidden: Tensor,
        role: str,
        state: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `run_watched`, on one batch of the recording."""
        found: list[Tensor] = []
        module = self.layers[position].get_submodule(self.family.projections[role])
        handle = module.register_forward_pre_hook(lambda module, args: found.append(args[0].detach()))
        try:
            output = self.run_batch(recording, batch, position, hidden, state)
        finally:
            handle.remove()
        # Some layers flatten samples and positions into one dimension.
        return output, found[0].reshape(*hidden.shape[:2], -1)

    def run_batch(
        self,
        recording: Recording,
        batch: int,
        position: int,
        hidden: Tensor,
        state: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """As `run_layer`, on one batch of the recording, with gradients where they are enabled."""
        layer, call = self.layers[position], recording.calls[batch][position]
        args = (hidden, *call.args)
        if state is None:
            return first_tensor(layer(*args, **call.kwargs))
        native = {self.family.native(name): tensor for name, tensor in state.items()}
        return first_tensor(functional_call(layer, native, args, dict(call.kwargs)))

    @torch.no_grad()
    def tail(self, hidden: Tensor) -> Tensor:
        """What the vocabulary projection reads, from the last layer's output."""
        return self._tail(hidden)

    def tail_modules(self) -> list[nn.Module]:
        """What stands between the last layer and the vocabulary projection."""
        found = [self._optional(path) for path in self.family.tail]
        return [module for module in found if module is not None]

    def _tail(self, hidden: Tensor) -> Tensor:
        for module in self.tail_modules():
            hidden = module(hidden)
        return hidden

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token scores `[samples, seq, vocabulary]` from the last layer's output.

        The model's own forward runs with its body replaced by the given hidden states, so that soft caps and
        scales are exactly those of the model.
        """
        return self.logits_with_gradient(hidden)

    def logits_with_gradient(self, hidden: Tensor) -> Tensor:
        """As `logits`, with gradients where they are enabled."""
        ready = self._tail(hidden)
        dummy = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        with self._body_returns(ready):
            logits: Tensor = self.model(input_ids=dummy, use_cache=False).logits
        return logits

    @contextmanager
    def _body_returns(self, hidden: Tensor) -> Iterator[None]:
        body = self.body
        body.forward = lambda *args, **kwargs: BodyOutput(hidden)
        try:
            yield
        finally:
            del body.forward

    def _optional(self, path: str) -> nn.Module | None:
        module: Any = self.model
        for part in path.split("."):
            module = getattr(module, part, None)
        return module if isinstance(module, nn.Module) else None

    def fingerprint(self) -> str:
        """A sha256 over all that the model's answers depend on: its parameters, its buffers and its config."""
        # Tables such as those of rotary embeddings are made anew at each loading, not to the same last bit everywhere.
        tables = [(k, v.bfloat16() if v.is_floating_point() else v) for k, v in self.model.named_buffers()]
        config = json.dumps(told_config(self.config.to_diff_dict()), sort_keys=True, default=str)
        parts = [self.weights_fingerprint().encode(), config.encode(), *_digests(tables)]
        return hashlib.sha256(b"|".join(parts)).hexdigest()

    def weights_fingerprint(self) -> str:
        """A sha256 over names, shapes, types and bytes of all parameters and the architecture's name.

        It is what plans were made for before `fingerprint` looked at buffers and config.
        """
        parts = _digests(self.model.named_parameters())
        return hashlib.sha256(self.config.model_type.encode() + b"".join(parts)).hexdigest()


# What a config says of where it comes from, and of what the parameters themselves tell.
UNTOLD = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "auto_map")


def told_config(values: Any) -> Any:
    """A config as plain data, without what has no part in the model's answers."""
    if isinstance(values, dict):
        return {str(key): told_config(item) for key, item in values.items() if key not in UNTOLD}
    return [told_config(item) for item in values] if isinstance(values, list | tuple) else values


def _digests(tensors: Iterable[tuple[str, Tensor]]) -> list[bytes]:
    """A sha256 of each tensor, by the order of their names."""

    def digest(item: tuple[str, Tensor]) -> bytes:
        name, value = item
        head = f"{name}|{value.dtype}|{tuple(value.shape)}|".encode()
        raw = value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
        return hashlib.sha256(head + hashlib.sha256(raw.data).digest()).digest()

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(digest, sorted(tensors, key=lambda item: item[0])))
