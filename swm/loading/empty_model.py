"""The model that a config describes, without memory for its weights: what can be known before any are loaded."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from swm.errors import FamilyError, ModelError, brief
from swm.loading.model_class import auto_class
from swm.loading.own_folders import empty_own
from swm.model.families import ModelFamily, find_family
from swm.model.own_layers import own_layers
from swm.model.quiet import quiet_transformers
from swm.model.shape import ModelShape
from swm.model.view import ModelView


def shape_of(config: Any, families: Sequence[ModelFamily], trust_remote_code: bool = False) -> ModelShape:
    """Parameter counts from the config alone."""
    view = empty_view(config, families, trust_remote_code)
    return ModelShape(view.parameters(), tuple(view.layer_parameters()))


def empty_view(config: Any, families: Sequence[ModelFamily], trust_remote_code: bool = False) -> ModelView:
    """The model of a config, built without memory for its weights."""
    family = find_family(config, families)
    return view_of(empty_model(config, trust_remote_code), family)


def view_of(model: nn.Module, family: ModelFamily) -> ModelView:
    """The view of a model. Raises FamilyError for a row that names modules which it has not."""
    try:
        return ModelView(model, family)
    except AttributeError as error:
        raise FamilyError(
            f"family row '{family.name}' says that the layers are at '{family.layers}': {brief(error)}"
        ) from None


def empty_model(config: Any, trust_remote_code: bool = False) -> nn.Module:
    """The model of a config without memory for its weights. Raises ModelError when the config describes none."""
    try:
        with torch.device("meta"), quiet_transformers():
            own = own_layers(config)
            if own is not None:
                model: Any = empty_own(copy.deepcopy(config), own)
            else:
                model = auto_class(config, trust_remote_code).from_config(config, trust_remote_code=trust_remote_code)
        model.tie_weights()
    except Exception as error:  # each architecture fails in its own way on a config that makes no sense
        raise ModelError(
            f"no model can be made from the config (model_type '{config.model_type}'): "
            f"{type(error).__name__}: {brief(error)}"
        ) from error
    return model  # type: ignore[no-any-return]
