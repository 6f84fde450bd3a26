"""The modelling file of a saved model whose layers have shapes of their own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from swm.checkpoint.model_buffers import model_buffers, saved_buffers
from swm.checkpoint.modelling_file import MODELLING, FolderForm, ModellingFile
from swm.checkpoint.own_shapes import made_of, own_shapes
from swm.loading.legacy_config import complete_config
from swm.loading.own_folders import BUFFERS, STACK, STOCK_TYPE
from swm.memory.kept_results import KeptResults
from swm.memory.working_memory import WorkingMemory
from swm.model.blocks import any_removed, removed_modules
from swm.model.expert_surgery import expert_widths, uneven_experts
from swm.model.own_layers import OWN_LAYERS
from swm.model.quiet import quiet_transformers
from swm.model.rebuilt import rebuilt
from swm.model.removed_blocks import RemovedBlock, remove_blocks
from swm.model.replacement import Rebuild
from swm.model.resizing import resize
from swm.model.units import Geometry
from swm.model.view import ModelView
from swm.model.width_fields import config_widths, even_geometry


@dataclass(frozen=True)
class Export:
    """A model to save, text files to put beside it, changes of its config.json, and whether it needs its own code.

    `multiplied` says that weights were multiplied together, `padded` that zeros stand behind some of them; then sums
    are taken in another order, and logits differ by rounding from the model in memory.
    """

    model: Any
    files: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    needs_code: bool = False
    # Of the model's family: names that older readers have for keys of the config.
    older_names: Mapping[str, str] = field(default_factory=dict)
    multiplied: bool = False
    padded: bool = False
    # Where the text tower lies in a model of several parts; all else is to be as it was.
    tower: str = ""
    # Names of buffers that are to be saved, which the class of the model makes anew.
    buffers: Sequence[str] = ()
    # Where tensors go that are made for the files alone.
    memory: WorkingMemory = field(default_factory=WorkingMemory)

    def write(self, folder: Path) -> None:
        """Save everything into an existing folder."""
        from transformers import GenerationConfig

        # Weight names that a class translates on the way in and out belong to its model type, not to ours.
        options = {"save_original_format": False} if self.needs_code else {}
        settings = self.model.generation_config
        with quiet_transformers():
            # transformers saves no settings that contradict each other, and many models come with such.
            self.model.generation_config = GenerationConfig()
            try:
                with saved_buffers(self.model, self.buffers), KeptResults(self.memory):
                    self.model.save_pretrained(folder, **options)
            finally:
                self.model.generation_config = settings
        # A model object may have none.
        written = (settings or GenerationConfig()).to_json_string(use_diff=True)
        (folder / "generation_config.json").write_text(written, encoding="utf-8")
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        complete_config(folder / "config.json", self.older_names, self.config)


def custom_export(view: ModelView, shapes: list[Geometry], form: FolderForm | None = None) -> Export:
    """The true shapes, with a modelling file that `auto_map` names; in another form than our own if one is given."""
    model = view.model
    rebuilds = {one.rebuild.name: one.rebuild for layer in view.replaced for one in layer.values()}
    removed = any_removed(view)
    if removed:
        rebuilds[remove_blocks.__name__] = _removal_code()
    if removed and even_geometry(shapes, view.family) is not None and not uneven_experts(view):
        shapes = []
    plain = view.family.layers_of(rebuilt(model, model.config))
    buffers = model_buffers(view, plain)
    layers = [_layer_shape(view, i, shapes, plain) for i in range(len(view.layers))]
    if any(resize.__name__ in layer for layer in layers):
        # Before other modules are put in place of some.
        rebuilds = {resize.__name__: Rebuild(resize.__name__, _typed(resize)), **rebuilds}
    # A config within a config is of a stock class, which cannot be told how to read such numbers; another form has
    # its own way to say them.
    numbers = {} if view.family.tower or form else _numbers_by_layer(view.config, layers)
    file = ModellingFile(
        model,
        view.family.layers,
        form.name if form else "PrunedForConditionalGeneration" if view.family.tower else "PrunedForCausalLM",
        list(rebuilds.values()),
        widths=bool(shapes) or not removed,
        numbers=bool(numbers),
        buffers=buffers,
        form=form,
    )
    config = {
        "model_type": file.model_type,
        "architectures": [file.name],
        "auto_map": file.auto_map,
        OWN_LAYERS: layers,
        STOCK_TYPE: view.model_config.model_type,
        STACK: view.family.layers,
        **({BUFFERS: buffers} if buffers else {}),
        **(form.config(view) if form else {}),
        **({"per_layer_config": numbers} if numbers else {}),
    }
    family = view.family
    about: dict[str, Any] = {"older_names": family.older_names, "tower": family.tower, "memory": view.memory}
    about["buffers"] = buffers
    return Export(model, {MODELLING: file.text}, config, needs_code=True, **about)


def _numbers_by_layer(config: Any, layers: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """The widths of layers where the config says other ones, as transformers and vLLM look them up by layer.

    What the config does not say at all is left out: transformers refuses it where layers without it are among them.
    """
    names, digits = getattr(type(config), "attribute_map", {}), len(str(len(layers) - 1))
    numbers = {}
    for position, layer in enumerate(layers):
        own = {k: v for k, v in layer.get("widths", {}).items() if getattr(config, k, v) != v}
        if own:
            numbers[str(position).zfill(digits)] = {names.get(name, name): value for name, value in own.items()}
    return numbers


def _layer_shape(view: ModelView, position: int, shapes: list[Geometry], plain: nn.ModuleList) -> dict[str, Any]:
    """What the modelling file must know of a layer: its widths, and the settings of its replaced modules by rebuild.

    Args:
        view: The model.
        position: Where the layer stands now.
        shapes: The widths of all layers; empty where the layers need not be made anew.
        plain: The layers as the model's class makes them of its config.
    """
    widths = config_widths(view.family, shapes[position]) if shapes else {}
    if uneven_experts(view):
        widths = {**widths, **expert_widths(view, position)}
    needed: dict[str, Any] = {"widths": widths} if widths else {}
    resized = own_shapes(view.layers[position], made_of(view, position, plain, widths))
    if resized:
        needed[resize.__name__] = resized
    for path, replaced in view.replaced[position].items():
        needed.setdefault(replaced.rebuild.name, {})[path] = replaced.settings
    removed = removed_modules(view.layers[position])
    return {**needed, remove_blocks.__name__: removed} if removed else needed


def _removal_code() -> Rebuild:
    """What a saved folder needs to leave out sub-blocks: the very code that does so in memory."""
    return Rebuild(remove_blocks.__name__, _typed(RemovedBlock, remove_blocks))


def _typed(*code: Any) -> str:
    """The source of code, which names no other type than those of Python."""
    return "from typing import Any\n\n\n" + "\n\n".join(inspect.getsource(one) for one in code)
