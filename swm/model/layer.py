"""Layer: one layer of a model, with its tensors, its widths and the places of its units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call  # type: ignore[attr-defined,unused-ignore]

from swm.errors import FamilyError
from swm.model.expert_axes import ExpertChannels, channels_in
from swm.model.experts import ExpertBlock, ExpertLayout, block_of
from swm.model.families import ModelFamily
from swm.model.hidden_states import first_tensor
from swm.model.recording import Carried, LayerCall
from swm.model.replacement import Replaced
from swm.model.units import READERS, ROUTED, ChannelSlice, Geometry, Part, block, channel_slices, features


@dataclass(frozen=True, eq=False)
class Layer:
    """The layer at `position` as it is now; `number` is the one that it had in the original model.

    What is read from the module is read once, so ask `ModelView.layer` again after a change of it. `replaced` names
    the modules in it, by their path, that stand in place of a projection.
    """

    module: nn.Module
    family: ModelFamily
    config: Any
    position: int
    number: int
    replaced: Mapping[str, Replaced]
    expert_layout: Callable[[], ExpertLayout | None] = lambda: None

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The parameters under canonical names; the tensors are the model's own."""
        return {self.family.canonical(key): p.detach() for key, p in self.module.named_parameters()}

    @cached_property
    def experts(self) -> ExpertBlock | None:
        """The experts that tokens are routed to; None where there are none."""
        layout = self.expert_layout()
        return None if layout is None else block_of(self.module, self.config, self.number, layout)

    @cached_property
    def expert_channels(self) -> ExpertChannels | None:
        """The channels of each of the experts; None where there are no experts. Raises FamilyError for unknown ones."""
        return channels_in(self.module, self.number, self.config.hidden_size)

    @cached_property
    def geometry(self) -> Geometry:
        """The widths; 0 for a part that this layer has not, or of which the row names too little to cut it.

        Raises FamilyError for a family whose row names no part at all.
        """
        paths = self.family.projections
        if READERS["mlp"] not in paths and not (self._keys and READERS["attention"] in paths):
            raise FamilyError(
                f"family row '{self.family.name}' names no projections of model_type '{self.config.model_type}', so "
                "widths cannot be pruned"
            )
        heads, kv_heads, head_dim = self._heads()
        has_mlp = self.has(READERS["mlp"]) and "mlp" not in self.family.disproven and not self.uncovered("mlp")
        return Geometry(heads, kv_heads, head_dim, features(self.projection(READERS["mlp"]))[0] if has_mlp else 0)

    def _heads(self) -> tuple[int, int, int]:
        """Query heads, KV heads, and channels of a head; zeros where heads cannot be told apart."""
        reader = READERS["attention"]
        if "attention" in self.family.disproven or not self._keys:
            return 0, 0, 0
        if not self.has(reader) or not self.has(self._keys) or self.uncovered("attention"):
            return 0, 0, 0
        read, written = features(self.projection(reader))[0], features(self.projection(self._keys))[1]
        head_dim = self.head_dim
        queries = read * 2 if self.family.gated_queries else read
        if self.has("attention.q") and features(self.projection("attention.q"))[1] != queries:
            # The queries' projection writes more than the row says.
            return 0, 0, 0
        heads, kv_heads = read // head_dim, written // head_dim
        # One matrix may make queries, keys and values.
        return heads, kv_heads if self._keys == "attention.k" else (kv_heads - heads) // 2, head_dim

    @property
    def head_dim(self) -> int:
        """The channels of a head: what the attention module itself says comes first, as layers may differ."""
        owner = self.module.get_submodule(self.family.projections[READERS["attention"]].rpartition(".")[0])
        own = vars(owner).get("head_dim")
        if isinstance(own, int):
            return own
        config = self.config
        return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)

    @property
    def _keys(self) -> str:
        """The role that writes the keys; empty where the row names none."""
        return next((role for role in ("attention.k", "attention.qkv") if self.family.projections.get(role)), "")

    def has(self, role: str) -> bool:
        """Whether this layer has the projection; layers of one model may be of different kinds."""
        path = self.family.projections.get(role)
        module = None if path is None else dict(self.module.named_modules()).get(path)
        return path in self.replaced or hasattr(module, "weight")

    def uncovered(self, part: Part) -> str:
        """What of the part's block the row forgets, so that a cut would miss it; empty where it names enough.

        That is a matrix, or a norm over all channels; one over the channels of each head is the same for all heads.
        """
        block = self.family.projections[READERS[part]].rpartition(".")[0]
        inside, size = f"norms.{block}.", 1 if part == "mlp" else self.head_dim
        for key, value in self.state.items():
            path = self.family.native(key)
            if not block or not key.startswith(inside) or path in self.family.alongside:
                continue
            if value.dim() > 1 or value.numel() not in (1, size):
                return f"{path} {list(value.shape)}"
        return ""

    def check_part(self, part: Part) -> None:
        """Raise FamilyError where the layer has units of this part that cannot be cut."""
        if part in ROUTED:
            return
        self.family.check_proven(block(part))
        if self.has(READERS[part]) and not self.units(part):
            missing = self.uncovered(part)
            why = (
                f"says nothing of {missing}"
                if missing
                else f"does not say how the {part} units of layer {self.number} lie in its projections"
            )
            raise FamilyError(f"family row '{self.family.name}' {why}, so widths cannot be pruned")

    def projection(self, role: str) -> nn.Module:
        """The module with this canonical name (`attention.q`, `mlp.down`, ...)."""
        return self.module.get_submodule(self.family.projections[role])

    def slices(self, part: Part) -> list[ChannelSlice]:
        """Every place of a part's channels, the projection that reads them last."""
        return channel_slices(self.family, self.state, self.geometry, part)

    def reader(self, part: Part) -> ChannelSlice:
        """The place of a part's channels in the projection that reads them."""
        return self.slices(part)[-1]

    def units(self, part: Part) -> int:
        """How many units a part has."""
        if part == "experts":
            return 0 if self.experts is None else self.experts.count
        if part == "expert_channels":
            return 0 if self.expert_channels is None else self.expert_channels.count
        return self.geometry.units(part)

    def unit_parameters(self, part: Part) -> int:
        """How many parameters go with one unit of a part."""
        if part == "experts" and self.experts is not None:
            parameters = dict(self.module.named_parameters())
            return sum(parameters[path].numel() for path in self.experts.axes if path in parameters) // self.units(part)
        if part == "expert_channels" and self.expert_channels is not None:
            channels = self.expert_channels
            names = {name for name, _, _ in channels.places()}
            return sum(self.module.get_parameter(channels.key(name)).numel() for name in names) // channels.count
        return sum(piece.view(self.state[piece.key]).numel() for piece in self.slices(part)) // self.units(part)

    def state_with(self, part: Part, units: Sequence[int]) -> dict[str, Tensor]:
        """The state with only these units of a part; other parameters are returned as they are."""
        state = dict(self.state)
        by_key: dict[str, list[ChannelSlice]] = {}
        for piece in self.slices(part):
            by_key.setdefault(piece.key, []).append(piece)
        for key, pieces in by_key.items():
            value, dim = state[key], pieces[0].dim
            stays = torch.ones(value.shape[dim], dtype=torch.bool)
            for piece in pieces:
                stays[piece.offset : piece.offset + piece.channels] = ~piece.removed(units)
            state[key] = value.index_select(dim, stays.nonzero().flatten().to(value.device)).contiguous()
        return state

    def run(
        self,
        call: LayerCall,
        hidden: Tensor,
        state: Mapping[str, Tensor] | None = None,
        carried: Carried | None = None,
    ) -> Tensor:
        """Run the layer, with gradients where they are enabled.

        Args:
            call: The other arguments of the layer.
            hidden: The hidden states that enter it, `[samples, seq, hidden]`.
            state: Parameters (canonical names) in place of the layer's own.
            carried: What earlier layers of this run handed on, to which this one adds; without it, what was recorded.

        Returns:
            The hidden states that leave it.
        """
        args, kwargs = (hidden, *call.args), call.arguments(carried or {})
        if state is None:
            output = self.module(*args, **kwargs)
        else:
            native = {self.family.native(name): tensor for name, tensor in state.items()}
            output = functional_call(self.module, native, args, kwargs)
        if carried is not None:
            carried.update({name: dict(kwargs[name]) for name in call.shared()})
        left = first_tensor(output)
        return left if call.added is None else (left + call.added).to(left.dtype)

    @torch.no_grad()
    def run_watched(
        self, call: LayerCall, hidden: Tensor, role: str, state: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `run`, with what enters a projection.

        Args:
            call: The other arguments of the layer.
            hidden: The hidden states that enter it, `[samples, seq, hidden]`.
            role: The canonical name of the projection.
            state: Parameters (canonical names) in place of the layer's own.

        Returns:
            The output of the layer, and the input of the projection `[samples, seq, channels]`.
        """
        inputs: list[Tensor] = []
        handle = self.projection(role).register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach()))
        try:
            output = self.run(call, hidden, state)
        finally:
            handle.remove()
        # Some layers flatten samples and positions into one dimension.
        return output, inputs[0].reshape(*hidden.shape[:2], -1)
