"""Model families as rows of data: the only place that knows module names.

A row names the modules of a decoder layer by their role. Paths are relative to the causal language model
(`layers`, `tail`) or to one decoder layer (everything else). A plugin adds a row with `register(ModelFamily(...))`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import nn

from swm.errors import FamilyError, PluginError, did_you_mean, listed, quoted, unknown
from swm.model.gguf_architecture import GgufArchitecture
from swm.model.text_config import text_config

# The canonical names of projections.
ROLES = (
    *("attention.q", "attention.k", "attention.v", "attention.qkv", "attention.o"),
    *("mlp.gate", "mlp.up", "mlp.gate_up", "mlp.down"),
)
# What a parameter beside the projections has an entry for.
Along = Literal["queries", "keys", "heads", "channels"]


@dataclass(frozen=True)
class ModelFamily:
    """What swm must know about the modules of one or more `config.model_type` values.

    `projections` maps canonical names (`attention.q`, `attention.k`, `attention.v`, `attention.qkv`,
    `attention.o`, `mlp.gate`, `mlp.up`, `mlp.gate_up`, `mlp.down`) to module paths inside a layer.
    `tail` are the modules that turn the last layer's output into what the vocabulary projection reads.

    A model of several parts has a row with `tower` in place of `layers`, `tail` and `projections`: where its text tower
    lies. The rest is said by the row of the model type that the config gives the tower.
    """

    name: str
    model_types: tuple[str, ...]
    layers: str = ""
    tail: tuple[str, ...] = ()
    projections: Mapping[str, str] = field(default_factory=dict)
    # Heads can go where the attention width is free of the hidden size.
    prunable_heads: bool = True
    # The config field that holds the MLP width; empty where none holds that and nothing else: see `only_custom`.
    mlp_width: str = "intermediate_size"
    # Weights are stored [in, out] (Conv1D) instead of [out, in].
    transposed: bool = False
    # Parts whose output projection always has a bias, and config switches that give a part's projections one.
    own_bias: tuple[str, ...] = ()
    bias_switch: Mapping[str, str] = field(default_factory=dict)
    # For model types whose config refuses head counts that do not divide the hidden size: one with the same weights
    # and arithmetic that takes them.
    stand_in: Mapping[str, str] = field(default_factory=dict)
    # Config switches under which the position of a layer changes its arithmetic: layers cannot be moved then.
    position_bound: tuple[str, ...] = ()
    # The queries' projection writes, head by head, a query and a gate.
    gated_queries: bool = False
    # Parameters of a layer beside its projections with an entry for each channel of all queries or of all keys, for
    # each query head, or for each channel of the MLP.
    alongside: Mapping[str, Along] = field(default_factory=dict)
    # Parts of which the class has tensors of a width that no config field gives: `layout: custom` alone holds a cut.
    custom_only: tuple[str, ...] = ()
    # Parameters beside the layers of which one axis holds a part for each layer, one after the other: paths in the
    # module that owns the layers, and that axis.
    by_layer: Mapping[str, int] = field(default_factory=dict)
    # Parts of a layer about which a test by numbers showed the row to be wrong, and how. No row says this of itself.
    disproven: Mapping[str, str] = field(default_factory=dict)
    # Other names that transformers 4 has for keys of the config, and at its top for those of `rope_parameters`.
    older_names: Mapping[str, str] = field(default_factory=dict)
    # What transformers 4.57 makes of saved models of these types: nothing where it computes the same, else why it does
    # not. A type that is not here was not tried.
    transformers_4: Mapping[str, str] = field(default_factory=dict)
    # The module that is the text model, without its vocabulary projection, in a model of several parts.
    tower: str = ""
    # A list in the config, by its path, that is as long as so many first layers are bound to their place.
    bound_first: str = ""
    # The architectures of GGUF that hold models of these types, the one to try first first.
    gguf: tuple[GgufArchitecture, ...] = ()
    # Those of the model types with layers as DeciLM has them, which `layout: nemotron-nas` holds in their own shapes,
    # each with the kinds of rotary tables that all programs make which know DeciLM.
    decilm: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Why models of these types cannot be taken; empty where they can.
    refused: str = ""

    def around(self, inner: ModelFamily) -> ModelFamily:
        """The row of a model whose text tower, at `tower`, is what the row `inner` tells of."""

        def moved(path: str) -> str:
            # The first name of a path is that of the model without its vocabulary projection.
            return ".".join([self.tower, *path.split(".")[1:]])

        return replace(
            inner,
            name=f"{self.name}, {inner.name}",
            model_types=self.model_types,
            layers=moved(inner.layers),
            tail=tuple(map(moved, inner.tail)),
            # What takes any head count is the class of a text model.
            stand_in={},
            # Another part of the model may read the width of the tower's MLPs in its config.
            mlp_width="" if "mlp" in self.custom_only else inner.mlp_width,
            custom_only=(*inner.custom_only, *self.custom_only),
            transformers_4=self.transformers_4,
            tower=self.tower,
            bound_first=self.bound_first,
        )

    def check(self, origin: str) -> None:
        """Raise PluginError, which names the `origin`, for what no row can say."""
        who = f"{origin}: family row '{self.name}'"
        if not isinstance(self.projections, Mapping):
            what = "a mapping of canonical names to paths in a layer"
            raise PluginError(f"{who}: found projections {quoted(self.projections)}; it is {what}")
        for role in self.projections:
            if role not in ROLES:
                raise PluginError(f"{who}: {unknown('projection', role, ROLES)}")

    def bound_layers(self, config: Any) -> int:
        """So many first layers must stay where they are, as something else counts on their numbers."""
        if not self.bound_first:
            return 0
        values = config
        for name in self.bound_first.split("."):
            values = getattr(values, name, None)
        return len(values or ())

    def layers_of(self, model: nn.Module) -> nn.ModuleList:
        """The decoder layers of a model of this family. Raises FamilyError where `layers` names something else."""
        layers = model.get_submodule(self.layers)
        if not isinstance(layers, nn.ModuleList):
            raise FamilyError(f"family row '{self.name}': {self.layers} is a {type(layers).__name__}, no ModuleList")
        return layers

    def body_of(self, model: nn.Module) -> nn.Module:
        """The module that owns the layers: token ids in, what the vocabulary projection reads out."""
        return model.get_submodule(self.layers.rpartition(".")[0])

    def beside_layers(self, model: nn.Module) -> list[nn.Parameter]:
        """The parameters of `by_layer` that this model has."""
        return [self.body_of(model).get_parameter(path) for path in self.by_layer_of(model)]

    def by_layer_of(self, model: nn.Module) -> dict[str, int]:
        """What of `by_layer` this model has."""
        own = dict(self.body_of(model).named_parameters()) if self.by_layer else {}
        return {path: axis for path, axis in self.by_layer.items() if path in own}

    def tail_of(self, model: nn.Module) -> list[nn.Module]:
        """What stands between the last layer and the vocabulary projection; a path that leads nowhere is left out."""
        modules = []
        for path in self.tail:
            module: Any = model
            for part in path.split("."):
                module = getattr(module, part, None)
            if isinstance(module, nn.Module):
                modules.append(module)
        return modules

    def only_custom(self, part: str) -> bool:
        """Whether `layout: custom` alone holds fewer units of a part: no config field of the class says how many."""
        block = "mlp" if part == "mlp" else "attention"
        return block in self.custom_only or (block == "mlp" and not self.mlp_width)

    def normed(self, part: str) -> bool:
        """Whether a norm is taken over all units of a part, so that zeros behind them would change it."""
        over = {"channels"} if part == "mlp" else {"queries", "keys"}
        return not over.isdisjoint(self.alongside.values())

    def check_proven(self, part: str) -> None:
        """Raise FamilyError for a part of a layer about which the row is wrong."""
        if part in self.disproven:
            raise FamilyError(f"family row '{self.name}' did not pass its test for {part}: {self.disproven[part]}")

    def canonical(self, key: str) -> str:
        """The canonical name of a parameter of a layer: `self_attn.q_proj.weight` to `attention.q.weight`.

        Every other parameter belongs to a norm and keeps its path: `norms.input_layernorm.weight`.
        """
        for role, path in self.projections.items():
            if key.startswith(path + "."):
                return role + key[len(path) :]
        return "norms." + key

    def native(self, key: str) -> str:
        """The inverse of `canonical`."""
        for role, path in self.projections.items():
            if key.startswith(role + "."):
                return path + key[len(role) :]
        return key.removeprefix("norms.")


def row_of(config: Any, families: Sequence[ModelFamily]) -> ModelFamily | None:
    """The first row for `config.model_type`; None where there is none for it or for the text tower that it names.

    Raises FamilyError when the config binds a layer's arithmetic to its position.
    """
    model_type = config.model_type
    for family in families:
        if model_type in family.model_types:
            if family.refused:
                raise FamilyError(f"model_type '{model_type}' cannot be taken: {family.refused}")
            if family.tower:
                text = text_config(config)
                if text is config:
                    raise FamilyError(
                        f"family row '{family.name}' has a tower, {family.tower}, and the config of a "
                        f"'{model_type}' has no text model in it; name layers, tail and projections instead"
                    )
                inner = row_of(text, families)
                return None if inner is None else family.around(inner)
            for switch in family.position_bound:
                if getattr(config, switch, False):
                    raise FamilyError(
                        f"model_type '{model_type}' with {switch}=true computes each layer by its position, "
                        "so its layers cannot be moved or removed"
                    )
            return family
    return None


def find_family(config: Any, families: Sequence[ModelFamily]) -> ModelFamily:
    """As `row_of`, with a FamilyError where there is none."""
    row = row_of(config, families)
    if row is None:
        raise unknown_row(config, families)
    return row


def unknown_row(config: Any, families: Sequence[ModelFamily], why: str = "") -> FamilyError:
    """The error for a model without a row; `why` says why none can be derived."""
    model_type = config.model_type
    known = [t for family in families for t in family.model_types]
    reason = f", and none can be derived: {why.rstrip('.')}" if why else ""
    return FamilyError(
        f"no family row for model_type '{model_type}'{reason}; known: {listed(known)}."
        f"{did_you_mean(model_type, known)} A plugin adds one with register(ModelFamily(...))"
    )
