"""From what the user calls a model to a folder, a shape and a loaded model: one name for what lies in its parts."""

from __future__ import annotations

from swm.files.cache_folder import cache_folder
from swm.loading.config import corrections, load_config
from swm.loading.empty_model import empty_model, empty_view, shape_of
from swm.loading.model_class import auto_class
from swm.loading.pretrained import load_model
from swm.loading.source import HUB_FILES, ModelSource, locate
from swm.loading.tokenizer import TOKENIZER_FILES, load_tokenizer
from swm.model.devices import DEVICE_MAPS, check_device_map, check_memory, pick_device

__all__ = [
    "DEVICE_MAPS",
    "HUB_FILES",
    "TOKENIZER_FILES",
    "ModelSource",
    "auto_class",
    "cache_folder",
    "check_device_map",
    "check_memory",
    "corrections",
    "empty_model",
    "empty_view",
    "load_config",
    "load_model",
    "load_tokenizer",
    "locate",
    "pick_device",
    "shape_of",
]
