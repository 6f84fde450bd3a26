"""Which class of transformers a config means: the one place that decides it."""

from __future__ import annotations

from typing import Any


def auto_class(config: Any, trust_remote_code: bool = False) -> Any:
    """The auto class that makes the model which the config means, and loads it.

    That is the one whose class for this config `architectures` names; otherwise the causal language model, unless its
    class takes the text part of the config alone; otherwise the model of images and text.
    """
    from transformers import AutoModelForCausalLM

    autos = _auto_classes()
    own = getattr(config, "auto_map", None) or {}
    if trust_remote_code:
        for auto in autos:
            if auto.__name__ in own:
                return auto
    kinds = {auto: kind for auto, mapping in autos.items() if (kind := mapping.get(type(config), None)) is not None}
    named = getattr(config, "architectures", None) or []
    wanted = [auto for auto, kind in kinds.items() if kind.__name__ in named]
    whole = [auto for auto, kind in kinds.items() if kind.config_class is type(config)]
    return next(iter([*wanted, *whole, *kinds]), AutoModelForCausalLM)


def stock_class(config: Any) -> Any:
    """The class of transformers itself that the config means; None where there is none."""
    return _auto_classes()[auto_class(config)].get(type(config), None)


def _auto_classes() -> dict[Any, Any]:
    """The auto classes that are asked, in this order, each with its table from classes of configs to classes."""
    import transformers

    return {
        transformers.AutoModelForCausalLM: transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
        transformers.AutoModelForImageTextToText: transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    }
