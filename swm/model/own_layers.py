"""Layers with shapes of their own, as the config of a saved folder lists them, made again in a model of a stock class.

What is made here, a saved folder makes with the code that lies in it: the settings are the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from swm.errors import ModelError
from swm.model.removed_blocks import remove_blocks
from swm.model.replacement import Rebuild, Replaced, mark_replaced
from swm.model.resizing import resize
from swm.model.text_config import text_config

# The key of a config with what each layer has of its own, and that with the widths in an entry of it.
OWN_LAYERS, WIDTHS = "swm_layers", "widths"


class OwnLayers(list[dict[str, Any]]):
    """What each layer has of its own. It is a list, so that a config which holds it can be written as JSON.

    `buffers` lie with the weights, though the class makes them.
    """

    def __init__(
        self,
        layers: Sequence[Mapping[str, Any]],
        stack: str = "",
        buffers: Sequence[str] = (),
        rebuilds: Mapping[str, Rebuild] | None = None,
    ) -> None:
        """Settings of layers.

        Args:
            layers: By layer, the settings of each change, by its name.
            stack: The path of the layers; any list of as many where it is empty.
            buffers: Names of buffers of layers.
            rebuilds: By name, how modules in place of projections are made.
        """
        super().__init__(map(dict, layers))
        self.stack, self.buffers, self.rebuilds = stack, tuple(buffers), dict(rebuilds or {})

    def replaces(self) -> set[str]:
        """The names of the rebuilds that make modules in place of projections."""
        return {name for layer in self for name in layer} - {WIDTHS, resize.__name__, remove_blocks.__name__}

    def shape(self, model: nn.Module, config: Any) -> None:
        """Give the layers of a model as its class makes them of its config what they have of their own.

        Raises ModelError for settings that do not fit the model.
        """
        layers = self._layers(model)
        for position, own in enumerate(self):
            if WIDTHS in own:
                layers[position] = _of_widths(layers[position], text_config(config), own[WIDTHS], position)
            for name, change in self._changes():
                if name in own:
                    change(layers[position], own[name])
        for module in layers.modules():
            module._non_persistent_buffers_set -= set(self.buffers)

    def settle(self, model: nn.Module) -> None:
        """Make the buffers that lay with the weights again those of the class, which are not saved."""
        for module in self._layers(model).modules():
            module._non_persistent_buffers_set |= {name for name in self.buffers if name in module._buffers}

    def _layers(self, model: nn.Module) -> nn.ModuleList:
        lists = {path: module for path, module in model.named_modules() if isinstance(module, nn.ModuleList)}
        # Folders of earlier versions do not say where the layers are.
        likely = [path for path, module in lists.items() if self.stack in ("", path) and len(module) == len(self)]
        if not likely:
            where = f"in {self.stack} " if self.stack else ""
            raise ModelError(f"{OWN_LAYERS} of the config lists {len(self)} layers; the model has not so many {where}")
        return lists[likely[0]]

    def _changes(self) -> list[tuple[str, Callable[[nn.Module, Any], None]]]:
        """What is done to a layer, in order: shapes first, as modules are replaced then that have them."""
        own = [(name, _replacing(rebuild)) for name, rebuild in self.rebuilds.items()]
        return [(resize.__name__, resize), *own, (remove_blocks.__name__, remove_blocks)]


def own_layers(config: Any) -> OwnLayers | None:
    """What the layers of a config's model have of their own; None where they are as the class makes them."""
    own = getattr(config, OWN_LAYERS, None)
    return own if isinstance(own, OwnLayers) else None


def plain_config(config: Any) -> Any:
    """A copy of a config whose layers are as the class makes them."""
    plain = copy.deepcopy(config)
    vars(plain).pop(OWN_LAYERS, None)
    return plain


def class_with(own: OwnLayers, parent: Any) -> Any:
    """A class that makes a model with own layers; `as_stock` makes one of the class `parent` of it."""

    def initialise(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        parent.__init__(self, config, *args, **kwargs)
        own.shape(self, config)
        self.post_init()

    # transformers asks classes for their name and module.
    about = {"__init__": initialise, "__module__": parent.__module__, "__qualname__": parent.__qualname__}
    return type(parent.__name__, (parent,), about)


def as_stock(model: Any, own: OwnLayers, parent: Any) -> Any:
    """The model as one of its stock class, as it was before it was saved: what differs are its layers."""
    own.settle(model)
    vars(model.config).pop(OWN_LAYERS, None)
    model.__class__ = parent
    return model


def _replacing(rebuild: Rebuild) -> Callable[[nn.Module, Any], None]:
    def replace(layer: nn.Module, settings: Mapping[str, Any]) -> None:
        if rebuild.make is None:
            raise ModelError(f"nothing says how modules of '{rebuild.name}' are made again; their plugin must")
        for path, values in settings.items():
            owner, _, name = path.rpartition(".")
            module = rebuild.make(layer.get_submodule(path), values)
            setattr(layer.get_submodule(owner), name, mark_replaced(module, Replaced(rebuild, values)))

    return replace


def _of_widths(plain: nn.Module, config: Any, widths: Mapping[str, Any], position: int) -> nn.Module:
    """A layer of the same class with widths of its own.

    Args:
        plain: The layer as the class of the model makes it.
        config: The config of the text model.
        widths: The fields of the config that have another value for this layer.
        position: Where it stands.
    """
    own, kind = copy.copy(config), type(plain)
    for name, value in widths.items():
        setattr(own, name, value)
    made: nn.Module = kind(own, position)
    for path, module in plain.named_modules():
        for name, value in module.named_buffers(recurse=False):
            if not hasattr(made.get_submodule(path), name):
                made.get_submodule(path).register_buffer(name, value, persistent=False)
    return made
