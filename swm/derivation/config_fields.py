"""What the config says of widths and biases: found by building the class for changed configs, without memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from swm.model.config_depth import cut_config_to
from swm.model.families import Along, ModelFamily
from swm.model.rebuilt import rebuilt
from swm.model.units import BLOCKS, READERS, Block, features

# Fields that are empty by default and then follow from the hidden size.
EMPTY_WIDTHS = ("inner", "ffn", "inter")


class ConfigProbe:
    """Asks the class of a model what layers it makes when fields of its config are changed."""

    def __init__(self, model: Any, stack: str) -> None:
        self.model = model
        self.stack = stack
        self.text = model.config.get_text_config()
        self.fields: Mapping[str, Any] = self.text.to_dict()

    def layers(self, **changes: Any) -> Sequence[nn.Module] | None:
        """The layers for these fields; None where the class refuses them."""
        trial = copy.deepcopy(self.model.config)
        try:
            for name, value in changes.items():
                setattr(trial.get_text_config(), name, value)
            return list(rebuilt(self.model, trial).get_submodule(self.stack).children())
        except Exception:  # each class fails in its own way on a config that makes no sense
            return None

    def reader(self, path: str) -> nn.Module:
        """The module at a path of the first layer that has it."""
        return next(module for layer in self.model.get_submodule(self.stack) if (module := at_path(layer, path)))

    def mlp_width(self, path: str) -> str:
        """The field that sets how much the projection at `path` reads in every layer; empty where none does."""
        width = features(self.reader(path))[0]
        names = [name for name, value in self.fields.items() if type(value) is int and value == width]
        empty = [name for name, value in self.fields.items() if value is None]
        names += [name for name in empty if any(part in name for part in EMPTY_WIDTHS)]
        half = width // 2

        def halved(module: nn.Module) -> bool:
            return features(module)[0] == half

        return next((name for name in names if self.every(self.layers(**{name: half}), path, halved)), "")

    def takes_fewer_heads(self, path: str) -> bool:
        """Whether half of the heads, each as wide as before, halve what the projection at `path` reads."""
        read, written = features(self.reader(path))
        fields = self._half_heads(read)

        def halved(module: nn.Module) -> bool:
            return features(module) == (fields["head_dim"] * fields["num_attention_heads"], written)

        return bool(fields) and self.every(self.layers(**fields), path, halved)

    def narrows(self, output: str, alongside: Mapping[str, Along]) -> bool:
        """Whether half of the heads shorten the parameters with an entry for each head or each of its channels.

        Args:
            output: The path of the attention's output projection.
            alongside: The parameters by path.
        """
        mine = [(path, kind) for path, kind in alongside.items() if kind != "channels"]
        if not mine:
            return True
        before = [dict(layer.named_parameters()) for layer in self.model.get_submodule(self.stack)]
        fields = self._half_heads(features(self.reader(output))[0])
        after = [dict(layer.named_parameters()) for layer in self.layers(**fields) or ()] if fields else []
        # The only KV head stays.
        same = {"keys"} if getattr(self.text, "num_key_value_heads", None) == 1 else set()
        return bool(after) and all(
            len(new[path]) == len(old[path]) // (1 if kind in same else 2)
            for path, kind in mine
            for old, new in zip(before, after, strict=True)
            if path in old
        )

    def _half_heads(self, read: int) -> dict[str, int]:
        """The fields of half of the heads, each as wide as before; empty where there are not two of them.

        Args:
            read: How many channels all heads have.
        """
        heads = getattr(self.text, "num_attention_heads", None)
        if not isinstance(heads, int) or heads < 2:
            return {}
        kv_heads = getattr(self.text, "num_key_value_heads", None) or heads
        size = read // heads
        return {"head_dim": size, "num_attention_heads": heads // 2, "num_key_value_heads": max(kv_heads // 2, 1)}

    def bias_switch(self, paths: Sequence[str]) -> str:
        """The field that gives each of these projections a bias; empty where none does."""
        names = [name for name, value in self.fields.items() if "bias" in name and value is False]
        return next((name for name in names if self.gives_biases(name, paths)), "")

    def gives_biases(self, switch: str, paths: Sequence[str]) -> bool:
        """Whether each of these projections has a bias where the switch is on."""
        layers = self.layers(**{switch: True})
        return all(self.every(layers, path, has_bias) for path in paths)

    def by_layer(self) -> dict[str, int]:
        """The parameters beside the layers of which one axis holds a part for each layer, with that axis."""
        count = len(self.model.get_submodule(self.stack))
        body = self.stack.rpartition(".")[0]
        for gone in reversed(range(count if count > 1 else 0)):
            trial = copy.deepcopy(self.model.config)
            try:
                cut_config_to(trial.get_text_config(), [position for position in range(count) if position != gone])
                shorter = dict(rebuilt(self.model, trial).get_submodule(body).named_parameters())
            except Exception:  # the class may need just this layer
                continue
            beside = self.model.get_submodule(body).named_parameters()
            inside = self.stack.removeprefix(f"{body}.")
            return {
                path: dim
                for path, value in beside
                if not path.startswith(f"{inside}.") and path in shorter
                for dim, length in enumerate(value.shape)
                if length % count == 0 and shorter[path].shape[dim] == length // count * (count - 1)
            }
        return {}

    def every(self, layers: Sequence[nn.Module] | None, path: str, holds: Callable[[nn.Module], bool]) -> bool:
        """Whether some layer has a module at the path, and it holds for that of each that has one."""
        modules = [module for layer in layers or () if (module := at_path(layer, path)) is not None]
        return bool(modules) and all(map(holds, modules))


def has_bias(module: nn.Module) -> bool:
    """Whether a projection has a bias."""
    return getattr(module, "bias", None) is not None


def at_path(layer: nn.Module, path: str) -> nn.Module | None:
    """The module of a layer at a path, which only some layers may have."""
    module = dict(layer.named_modules()).get(path)
    return module if hasattr(module, "weight") else None


def wrong_biases(model: Any, family: ModelFamily) -> dict[str, str]:
    """What a row says wrongly of the biases of its projections, by part; empty when all is right."""
    probe, wrong = ConfigProbe(model, family.layers), dict[str, str]()
    for part in BLOCKS:
        if READERS[part] not in family.projections:
            continue
        path = family.projections[READERS[part]]
        if part in family.own_bias and not probe.every(list(family.layers_of(model)), path, has_bias):
            wrong[part] = f"own_bias names {part}, and {path} has no bias"
        switch = family.bias_switch.get(part, "")
        if switch in probe.fields and not probe.gives_biases(switch, list(projections_of(family, part).values())):
            wrong[part] = f"{switch}=true does not give all {part} projections a bias"
    return wrong


def projections_of(family: ModelFamily, part: Block) -> dict[str, str]:
    """The projections of one part alone."""
    return {role: path for role, path in family.projections.items() if role.startswith(f"{part}.")}
