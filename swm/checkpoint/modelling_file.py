"""The modelling file that lies beside a model whose layers have shapes of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swm.checkpoint.model_buffers import CARRIED_TEXT, SAVED_TEXT
from swm.loading.model_class import auto_class
from swm.loading.own_folders import PREFIX
from swm.model.replacement import Rebuild
from swm.model.view import ModelView

MODELLING = "modeling_swm.py"
# `{...}` are filled in.
FILE_TEXT = '''"""{parent} whose layers have shapes of their own, as config.json lists them in `swm_layers`."""

import copy

import torch
from torch import nn

{imports}

{sources}class PrunedConfig(ParentConfig):
    model_type = "{model_type}"
{numbers}

def give_own_shapes(layers, config):
    for i, shape in enumerate(config.swm_layers):
{widths}{calls}{saved}{classes}'''
CLASS_TEXT = """

class {name}({parent}):
    config_class = PrunedConfig

    def __init__(self, config):
        super().__init__(config)
        give_own_shapes(self.get_submodule("{layers}"), config)
        self.post_init()
{cache}"""
# transformers refuses to read a number of the whole model where layers have their own, and the parent reads some.
NUMBERS_TEXT = """
    def __getattribute__(self, key):
        return object.__getattribute__(self, object.__getattribute__(self, "attribute_map").get(key, key))
"""
# transformers knows classes with a cache of their own by their names, which is another here.
CACHE_TEXT = """
    @classmethod
    def _supports_default_dynamic_cache(cls):
        return False
"""
# Only where layers have widths of their own must they be made anew.
WIDTHS_TEXT = """        own = copy.copy(config.get_text_config())
        for name, value in shape.get("widths", {{}}).items():
            setattr(own, name, value)
        if "widths" in shape:
            plain, layers[i] = layers[i], type(layers[i])(own, i)
{carried}"""


@dataclass(frozen=True)
class FolderForm:
    """Another form of a folder with code than that of our own: what other programs than transformers look for.

    `sources` stands before the class of the config, `config_text` in it; `config` gives more keys of config.json.
    """

    model_type: str
    name: str
    sources: str
    config_text: str
    config: Callable[[ModelView], Mapping[str, Any]]


@dataclass(frozen=True)
class ModellingFile:
    """Classes like that of a model, which give their layers the shapes that config.json lists.

    Beside the class itself there is one of its body without a head, for those who bring their own head, such as the
    Transformers back end of vLLM.
    """

    model: Any
    # Where the layers lie in the model.
    layers: str
    name: str
    # What is done to each layer, in this order.
    rebuilds: Sequence[Rebuild]
    # Whether layers are made anew, of widths of their own.
    widths: bool
    # Whether the config says those by layer, as transformers does.
    numbers: bool
    # The names of buffers that are saved.
    buffers: Sequence[str]
    # The form of the folder; None for our own.
    form: FolderForm | None = None

    @property
    def model_type(self) -> str:
        return self.form.model_type if self.form else f"{PREFIX}{self.model.config.model_type}"

    @property
    def auto_map(self) -> dict[str, str]:
        """The classes by the auto classes that make them."""
        module = MODELLING.removesuffix(".py")
        classes = {"AutoConfig": "PrunedConfig", auto_class(self.model.config).__name__: self.name}
        if self._inner:
            classes["AutoModel"] = "PrunedModel"
        return {auto: f"{module}.{name}" for auto, name in classes.items()}

    @property
    def text(self) -> str:
        """The code."""
        parent, config = type(self.model), type(self.model.config)
        stock = {"ParentConfig": (parent.__module__, config.__name__), "Parent": (parent.__module__, parent.__name__)}
        classes = self._class(self.name, "Parent", self.model, self.layers)
        if self._inner:
            body = type(self.model.base_model)
            stock["ParentModel"] = body.__module__, body.__name__
            classes = self._class("PrunedModel", "ParentModel", self.model.base_model, self._inner) + classes
        return FILE_TEXT.format(
            parent=parent.__name__,
            model_type=self.model_type,
            imports="\n".join(f"from {module} import {name} as {own}" for own, (module, name) in stock.items()),
            sources="".join(f"{rebuild.source.strip()}\n\n\n" for rebuild in self.rebuilds)
            + (self.form.sources if self.form else ""),
            numbers=(NUMBERS_TEXT if self.numbers else "") + (self.form.config_text if self.form else ""),
            widths=WIDTHS_TEXT.format(carried=CARRIED_TEXT if self.buffers else "") if self.widths else "",
            calls="".join(f'        {one.name}(layers[i], shape.get("{one.name}", {{}}))\n' for one in self.rebuilds),
            saved=SAVED_TEXT.format(names=self.buffers) if self.buffers else "",
            classes=classes,
        )

    @property
    def _inner(self) -> str:
        """Where the layers lie in the body without a head; empty where the class has none of its own."""
        prefix = f"{self.model.base_model_prefix}."
        apart = self.model.base_model is not self.model and self.layers.startswith(prefix)
        return self.layers.removeprefix(prefix) if apart else ""

    @staticmethod
    def _class(name: str, parent: str, like: Any, layers: str) -> str:
        """The code of a class.

        Args:
            name: What it is called.
            parent: What its parent is called in the file.
            like: A model of the parent.
            layers: Where the layers lie in it.
        """
        plain_cache = getattr(type(like), "_supports_default_dynamic_cache", lambda: True)
        return CLASS_TEXT.format(name=name, parent=parent, layers=layers, cache="" if plain_cache() else CACHE_TEXT)
