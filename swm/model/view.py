"""ModelView: a causal language model seen as an embedding, a stack of layers and a tail.

Nothing here knows a model family: a layer is run with the arguments (masks, positions, caches) that the model itself
passed to it, recorded once, so a sliding-window mask or a second rotary table follows its layer wherever it goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from swm.errors import FamilyError
from swm.memory.working_memory import WorkingMemory
from swm.model.expert_axes import WidthField, find_expert_width
from swm.model.experts import ExpertLayout, find_experts
from swm.model.families import ModelFamily
from swm.model.fingerprint import fingerprint, weights_fingerprint
from swm.model.finite import check_states
from swm.model.head import Head
from swm.model.layer import Layer
from swm.model.recording import Carried, Recording, record_run
from swm.model.replacement import Replaced, marked
from swm.model.row_store import RowStore
from swm.model.samples import Samples
from swm.model.text_config import text_config


class ModelView:
    """A model and its family row. It owns no copy of anything.

    `numbers[i]` is the number that layer i had in the original model, `ends[i]` the original layer whose output its
    own stands for: the last one of what was merged into it. `replaced[i]` holds, by path, the modules in layer i that
    stand in place of a projection. `tokens[i]` is the id that row i of the embedding had in the original model; None
    while the vocabulary is whole.
    """

    def __init__(self, model: nn.Module, family: ModelFamily) -> None:
        self.model = model.eval()
        self.family = family
        self.memory = WorkingMemory()
        self.numbers = list(range(len(self.layers)))
        self.ends = list(self.numbers)
        self.replaced: list[dict[str, Replaced]] = [marked(layer) for layer in self.layers]
        self.tokens: Sequence[int] | None = None
        if not len(self.layers):
            raise FamilyError(f"the model has no layers in {family.layers} (num_hidden_layers: 0); nothing can be done")
        if len(self.layers) != self.config.num_hidden_layers:
            said = self.config.num_hidden_layers
            raise FamilyError(f"config says {said} layers, {family.layers} has {len(self.layers)}")

    @property
    def config(self) -> Any:
        """The config of the text model, the one that the layers belong to."""
        return text_config(self.model_config)

    @property
    def model_config(self) -> Any:
        """The config of the whole model; `config` is the part of it that tells of the text tower."""
        return self.model.config

    @property
    def layers(self) -> nn.ModuleList:
        return self.family.layers_of(self.model)

    @property
    def body(self) -> nn.Module:
        """The module that owns the layers: token ids in, what the vocabulary projection reads out."""
        return self.family.body_of(self.model)

    @property
    def head(self) -> Head:
        """What turns the output of the last layer into scores of tokens."""
        return Head(self.model, self.family)

    def layer(self, position: int) -> Layer:
        """The layer at `position` as it is now."""
        place = position, self.numbers[position], self.replaced[position], lambda: self.experts
        return Layer(self.layers[position], self.family, self.config, *place)

    @cached_property
    def experts(self) -> ExpertLayout | None:
        """Where the experts of the layers are; None for a model without. Raises FamilyError where that is not known."""
        return find_experts(self.model, self.family, self.numbers)

    @cached_property
    def expert_width(self) -> WidthField | None:
        """What gives the experts of all layers their width; None where no field does, or there are no experts."""
        return find_expert_width(self.model, self.config, self.family)

    @property
    def vocabulary(self) -> int:
        """The number of rows of the embedding. Raises FamilyError for a class that does not say where that is."""
        model: Any = self.model
        try:
            return int(model.get_input_embeddings().weight.shape[0])
        except (NotImplementedError, AttributeError):
            raise FamilyError(f"{type(model).__name__} does not say which module its embedding is") from None

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
        """The number of parameters of each layer, with its part of those beside the layers."""
        each = sum(p.numel() for p in self.family.beside_layers(self.model)) // len(self.layers)
        return [sum(p.numel() for p in layer.parameters()) + each for layer in self.layers]

    def state(self, position: int) -> dict[str, Tensor]:
        """The parameters of a layer under canonical names; the tensors are the model's own."""
        return self.layer(position).state

    @torch.no_grad()
    def record(
        self,
        text: Tensor | Samples,
        mask: Tensor | None = None,
        batch_size: int | None = None,
        only_first: bool = False,
        batches: int = 1,
    ) -> Recording:
        """Run the model, without its head, once over a text and keep what is needed to run any layer again.

        Args:
            text: Tokens `[samples, seq]`, or samples of which some hold an image.
            mask: `[samples, seq]`, 0 for padding.
            batch_size: Samples in a batch; without it, batches are as large as they may be.
            only_first: Keep the hidden states that enter the first layer only; see `record_run`.
            batches: The fewest batches to make without a `batch_size`, where none of them gets too small for that.

        Raises:
            ModelError: What is kept is not finite, or the model answers the same whatever it reads.
        """
        rows = Samples.of(text).batches(batch_size, batches, self.device)
        recording = record_run(self.model, self.family, text, mask, rows, only_first, self.memory)
        check_states(recording.states, self.numbers)
        if not only_first:
            self.head.check_answers(recording.ids, recording.states[-1])
        return recording

    @torch.no_grad()
    def run_layer(
        self,
        recording: Recording,
        position: int,
        hidden: Tensor,
        state: Mapping[str, Tensor] | None = None,
        carried: Sequence[Carried] | None = None,
    ) -> Tensor:
        """Run a layer on all samples of a recording.

        Args:
            recording: A run of the model, whose arguments the layer is given.
            position: Where the layer stands now.
            hidden: What enters it, `[samples, seq, hidden]`.
            state: Parameters (canonical names) in place of the layer's own.
            carried: By batch, what earlier layers of this run handed on; see `run_batch`.

        Returns:
            The hidden states that leave it, `[samples, seq, hidden]`.
        """
        handed: Sequence[Carried | None] = carried or [None] * len(recording.rows)
        outputs = RowStore(len(hidden), self.memory)
        for batch, rows in enumerate(recording.rows):
            outputs.put(rows, self.run_batch(recording, batch, position, hidden[rows], state, handed[batch]))
        return outputs.filled()

    @torch.no_grad()
    def run_watched(
        self,
        recording: Recording,
        position: int,
        hidden: Tensor,
        role: str,
        state: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `run_layer`, with what enters a projection.

        Args:
            recording, position, hidden, state: As there.
            role: The canonical name of the projection.

        Returns:
            The hidden states that leave the layer, and the input of the projection `[samples, seq, channels]`.
        """
        outputs, entering = (RowStore(len(hidden), self.memory) for _ in range(2))
        layer = self.layer(position)
        for batch, rows in enumerate(recording.rows):
            output, inputs = layer.run_watched(recording.calls[batch][position], hidden[rows], role, state)
            outputs.put(rows, output)
            entering.put(rows, inputs)
        return outputs.filled(), entering.filled()

    def run_batch(
        self,
        recording: Recording,
        batch: int,
        position: int,
        hidden: Tensor,
        state: Mapping[str, Tensor] | None = None,
        carried: Carried | None = None,
    ) -> Tensor:
        """As `run_layer`, on one batch of the recording, with gradients where they are enabled.

        Args:
            recording, position, state: As there.
            batch: The number of the batch.
            hidden: Its hidden states, `[samples, seq, hidden]`.
            carried: What earlier layers of this run handed on, to which this one adds; without it, what was recorded.
        """
        return self.layer(position).run(recording.calls[batch][position], hidden, state, carried)

    @torch.no_grad()
    def tail(self, hidden: Tensor) -> Tensor:
        """What the vocabulary projection reads, from the last layer's output."""
        return self.head.tail(hidden)

    def tail_modules(self) -> list[nn.Module]:
        """What stands between the last layer and the vocabulary projection."""
        return self.family.tail_of(self.model)

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token scores `[samples, seq, vocabulary]` from the last layer's output."""
        return self.head.logits(hidden)

    def logits_with_gradient(self, hidden: Tensor) -> Tensor:
        """As `logits`, with gradients where they are enabled."""
        return self.head.logits(hidden)

    def fingerprint(self) -> str:
        """A sha256 over all that the model's answers depend on: its parameters, its buffers and its config."""
        return fingerprint(self.model, self.model_config)

    def weights_fingerprint(self) -> str:
        """A sha256 over all parameters and the architecture's name; what plans of older releases were made for."""
        return weights_fingerprint(self.model, self.model_config)
