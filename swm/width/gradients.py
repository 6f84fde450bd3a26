"""Gradients of the loss layer by layer, for models of any size.

The backward pass is taken by hand through the recorded layer boundaries: a layer is run again on its cached input, and
the gradient of its output gives those of its weights and of its input. So no more than one layer's gradients and
activations are in memory, which is what gradient checkpointing at every layer would do, and no more work.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swm.errors import FamilyError
from swm.memory.working_memory import WorkingMemory
from swm.model.config_depth import key_sources
from swm.model.experts import expert_weights
from swm.model.finite import all_finite, check_finite, not_finite
from swm.model.recording import Recording
from swm.model.samples import Samples
from swm.model.state import is_norm
from swm.model.token_scores import score_pieces
from swm.model.view import ModelView
from swm.training.master_weights import first_loss_scale

Gradients = dict[str, Tensor]
# What pruners that need gradients say so by.
GRADIENTS = frozenset({"gradients", "squared_gradients"})
# In place of an id that is not to be predicted.
NO_TARGET = -100


def check_gradients(config: Any) -> None:
    """Raise FamilyError where layers read keys and values of earlier ones: gradients layer by layer miss that path."""
    sources = key_sources(config.get_text_config())
    if sources:
        layer, source = next(iter(sources.items()))
        raise FamilyError(
            f"layer {layer} reads the keys and values of layer {source}, which gradients taken layer by layer do not "
            "see; use a pruner that needs no gradients"
        )


def layer_gradients(
    view: ModelView,
    text: Tensor | Samples,
    wanted: set[int],
    per_sample: bool,
    biases: bool = False,
    experts: bool = False,
) -> Generator[tuple[int, Gradients, Gradients]]:
    """Gradients of the mean next-token loss, layer by layer from the top down.

    Those of float16 weights are in float32, all others in the weight's own type.

    Args:
        view: The model.
        text: The tokens, `[samples, seq]`.
        wanted: The positions of the layers to give gradients of.
        per_sample: Give also the mean over samples of the squared gradient of each sample's own mean loss.
        biases: Give the gradients of the projections' biases too.
        experts: Give the gradients of the weights of all experts too.

    Yields:
        The position of a layer, its gradients by canonical name, and its mean squared gradients, empty without
        `per_sample`.

    Raises:
        ModelError: A gradient is not finite.
        FamilyError: Gradients cannot be taken layer by layer.
    """
    check_gradients(view.config)
    recording = view.record(text, batch_size=1 if per_sample else None)
    with frozen(view.model):
        scale = first_loss_scale(view.model.parameters())
        upstream, scale = _scaled_loss_gradient(view, recording, scale)
        for position in range(len(view.layers) - 1, min(wanted, default=0) - 1, -1):
            own = _parameters(view, position, biases, experts) if position in wanted else {}
            for weight in own.values():
                weight.requires_grad_(True)
            while True:
                layer = _LayerBackward(own, upstream, scale, per_sample, view.memory)
                if layer.run(view, recording, position):
                    break
                # Only the scale was too large for float16.
                halved = view.memory.empty(upstream.shape, upstream.dtype, upstream.device)
                upstream, scale = torch.div(upstream, 2, out=halved), scale / 2
            for weight in own.values():
                weight.requires_grad_(False)
            recording.states.pop()
            upstream = layer.below
            if position in wanted:
                yield position, layer.gradients, layer.squares


class _LayerBackward:
    """The backward pass through one layer.

    Args:
        own: The layer's parameters whose gradients are wanted, by canonical name.
        upstream: The gradient of `scale` times the loss by the layer's output, `[samples, seq, hidden]`.
        scale: What the loss is multiplied with, so that gradients in float16 do not underflow.
        per_sample: Keep the mean squared gradients of single samples too.
        memory: Decides where the gradient by the layer's input is kept.

    `below` becomes the gradient of `scale` times the loss by the layer's input.
    """

    def __init__(
        self,
        own: Mapping[str, nn.Parameter],
        upstream: Tensor,
        scale: float,
        per_sample: bool,
        memory: WorkingMemory,
    ) -> None:
        self.own, self.upstream, self.scale = own, upstream, scale
        self.below = memory.empty(upstream.shape, upstream.dtype, upstream.device)
        self.gradients = {key: torch.zeros_like(weight, dtype=_gradient_dtype(weight)) for key, weight in own.items()}
        self.squares = {key: torch.zeros_like(g) for key, g in self.gradients.items()} if per_sample else {}

    def run(self, view: ModelView, recording: Recording, position: int) -> bool:
        """Whether all of it is finite at this scale. Raises ModelError where no smaller scale can help."""
        samples = len(self.upstream)
        for batch, rows in enumerate(recording.rows):
            hidden = recording.states[position][rows].detach().requires_grad_(True)
            output = view.run_batch(recording, batch, position, hidden)
            below, *own = torch.autograd.grad(output, [hidden, *self.own.values()], self.upstream[rows])
            self.below[rows] = below
            if self.scale > 1 and not all(torch.isfinite(gradient).all() for gradient in (below, *own)):
                return False
            check_finite(below, f"the gradient behind layer {view.numbers[position]} has", self.below.dtype)
            for name, scaled in zip(self.own, own, strict=True):
                gradient = scaled.to(_gradient_dtype(scaled)) / self.scale
                self.gradients[name] += gradient
                if self.squares:
                    # The loss is a mean over all samples; one sample's own is that many times larger.
                    self.squares[name] += (gradient * samples).square() / samples
        return True


def _gradient_dtype(values: Tensor) -> torch.dtype:
    """The type in which the gradients of such values do not underflow without a scale."""
    return torch.float32 if values.dtype is torch.float16 else values.dtype


def _parameters(view: ModelView, position: int, biases: bool, experts: bool) -> dict[str, nn.Parameter]:
    """The weights of the layer's projections by canonical name, with their biases and those of experts if asked for.

    Args:
        view: The model.
        position: Where the layer stands now.
        biases: Whether biases are asked for.
        experts: Whether the weights of experts are asked for.
    """
    layer = view.layer(position)
    kinds = (".weight", ".bias") if biases else (".weight",)
    fused = {f"{path}.{name}" for path, names in expert_weights(layer.module).items() for name in names if experts}
    return {
        view.family.canonical(key): p
        for key, p in layer.module.named_parameters()
        if key in fused or (key.endswith(kinds) and not is_norm(view.family.canonical(key)))
    }


def loss_gradient(view: ModelView, recording: Recording, scale: float = 1.0) -> Tensor:
    """The gradient of the mean next-token cross entropy by the last layer's output.

    Args:
        view: The model.
        recording: A run over the text; the pieces of images in it are not predicted.
        scale: What the loss is multiplied with.

    Returns:
        The gradient of `scale` times the loss, `[samples, seq, hidden]`.

    Raises:
        ModelError: The loss is not finite.
    """
    end, ids, predicted = recording.states[-1], recording.ids, recording.samples.predicted
    # Nothing is predicted at the last place of a sample.
    result = view.memory.empty(end.shape, end.dtype, end.device).zero_()
    tokens = int(predicted.sum())
    pieces = score_pieces(ids.shape[1] - 1, view.config.vocab_size)
    for row, piece in itertools.product(range(len(ids)), pieces):
        hidden = end[row : row + 1, piece].detach().requires_grad_(True)
        with torch.enable_grad():
            logits = view.logits_with_gradient(hidden).float()
            target = ids[row, 1:].where(predicted[row], NO_TARGET)[piece].to(logits.device)
            loss = F.cross_entropy(logits[0], target, ignore_index=NO_TARGET, reduction="sum") / tokens
            scaled = loss * scale
        if not torch.isfinite(loss):
            raise not_finite("the loss on the calibration text is not finite: there are", end.dtype)
        [result[row : row + 1, piece]] = torch.autograd.grad(scaled, [hidden])
    return result


def _scaled_loss_gradient(view: ModelView, recording: Recording, scale: float) -> tuple[Tensor, float]:
    """`loss_gradient` at the largest scale at which it is finite, and that scale.

    Args:
        view: The model.
        recording: A run over the text.
        scale: The scale to begin with; it is halved again and again.
    """
    while True:
        gradient = loss_gradient(view, recording, scale)
        if scale <= 1 or all_finite(gradient):
            return gradient, scale
        scale /= 2


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient inside the block."""
    before = {p: p.requires_grad for p in model.parameters()}
    for parameter in before:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, flag in before.items():
            parameter.requires_grad_(flag)
