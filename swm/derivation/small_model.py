"""A small random model of a config: two layers of each kind, few tokens, and widths that cost no seconds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from swm.derivation.probe import probe_ids
from swm.derivation.small_config import small_configs
from swm.errors import FamilyError, brief
from swm.model.config_depth import INDEX_LISTS, PER_LAYER_LISTS, cut_config_to
from swm.model.quiet import quiet_transformers
from swm.model.rebuilt import rebuilt

# A model that cannot be made smaller is tested up to this size: 4 GiB in float32.
MOST_PARAMETERS = 2**30


def small_model(empty: Any, stack: str) -> nn.Module:
    """Make a model that has what the model of a config has, and costs little.

    Args:
        empty: The model of the config, without memory for its weights; it is not changed.
        stack: The path of its layers.

    Returns:
        A float32 model of the same class with random weights that all count.

    Raises:
        FamilyError: The class makes no such model that runs, or only one that is too large.
    """
    kept = _few_layers(empty, stack)
    why = "its class refuses every smaller config"
    for config in small_configs(empty.config):
        try:
            cut_config_to(config.get_text_config(), kept)
            trial = rebuilt(empty, copy.deepcopy(config))
            if not _same_layers(empty.get_submodule(stack), trial.get_submodule(stack), kept):
                continue
            size = sum(value.numel() for value in trial.parameters())
            if size > MOST_PARAMETERS:
                why = f"{len(kept)} layers of it have {size:,} parameters, too many to test its family row"
                continue
            model = _random_model(type(empty), config)
            ids = probe_ids(config.get_text_config().vocab_size)
            with torch.no_grad():
                logits: Tensor = model(input_ids=ids, use_cache=False).logits  # type: ignore[operator,unused-ignore]
            if torch.isfinite(logits).all():
                return model
            why = "a model with random weights gives scores that are not finite"
        except Exception as error:  # each class refuses sizes in its own way
            why = f"{type(error).__name__}: {brief(error)}"
    raise FamilyError(f"no small model of model_type '{empty.config.model_type}' can be made to test its row on: {why}")


def stack_guess(empty: Any) -> str:
    """The path of the list of as many modules as the text config says there are layers; empty where there is none."""
    count = getattr(empty.config.get_text_config(), "num_hidden_layers", None)
    lists = [name for name, module in empty.named_modules() if isinstance(module, nn.ModuleList)]
    likely = [name for name in lists if len(empty.get_submodule(name)) == count]
    for kept in (range(count - 1), range(1, count)) if count and len(likely) > 1 else ():
        config = copy.deepcopy(empty.config)
        try:
            cut_config_to(config.get_text_config(), list(kept))
            shorter = rebuilt(empty, config)
        except Exception:  # each class fails in its own way on a config that makes no sense
            continue
        likely = [name for name in likely if len(list(shorter.get_submodule(name).children())) == len(kept)] or likely
        break
    return next(iter(likely), "")


def layer_kinds(config: Any, layers: nn.ModuleList) -> list[Any]:
    """What kind each layer is of: layers of a kind have the same parameters and stand alike in the config."""
    stored, count = config.to_dict(), len(layers)
    lists = [stored[name] for name in PER_LAYER_LISTS if isinstance(stored.get(name), list | tuple)]
    members = [set(stored[name]) for name in INDEX_LISTS if isinstance(stored.get(name), list | tuple)]
    return [
        (
            tuple((name, *value.shape) for name, value in layer.named_parameters()),
            tuple(str(values[i]) for values in lists if len(values) == count),
            tuple(i in numbers for numbers in members),
        )
        for i, layer in enumerate(layers)
    ]


def _few_layers(empty: Any, stack: str) -> list[int]:
    """The first and the last layer of each kind, or more where no config says that just these remain."""
    text, layers = empty.config.get_text_config(), empty.get_submodule(stack)
    kinds, count = layer_kinds(text, layers), len(layers)
    places: dict[Any, list[int]] = {}
    for i, kind in enumerate(kinds):
        places.setdefault(kind, []).append(i)
    few = {i for of_kind in places.values() for i in (of_kind[0], of_kind[-1])}
    # Where a period says of which kind a layer is, only the last layers can go.
    some = max(of_kind[0] for of_kind in places.values()) + 1
    whole = max(of_kind[:2][-1] for of_kind in places.values()) + 1
    for kept in (sorted(few), *(list(range(n)) for n in sorted({some, whole}) if n < count)):
        if _can_be(empty, stack, kept):
            return kept
    return list(range(count))


def _can_be(empty: Any, stack: str, kept: Sequence[int]) -> bool:
    config = copy.deepcopy(empty.config)
    try:
        cut_config_to(config.get_text_config(), kept)
        return _same_layers(empty.get_submodule(stack), rebuilt(empty, config).get_submodule(stack), kept)
    except Exception:  # each class fails in its own way on a config that makes no sense
        return False


def _same_layers(layers: nn.Module, smaller: nn.Module, kept: Sequence[int]) -> bool:
    """Whether the layers of a smaller model have parameters of the same names as those that they stand for."""
    names = [[name for name, _ in layer.named_parameters()] for layer in layers.children()]
    return [[name for name, _ in layer.named_parameters()] for layer in smaller.children()] == [names[i] for i in kept]


@torch.no_grad()
def _random_model(kind: Any, config: Any) -> nn.Module:
    """A model of the class with weights that all count: norms of ones and biases of zeros hide mistakes."""
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        model: nn.Module = kind(copy.deepcopy(config)).float()
    generator = torch.Generator().manual_seed(7)
    for value in model.parameters():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if value.dim() > 1:
            value.copy_(noise * min(0.15, 1.5 / value.shape[-1] ** 0.5))
        else:
            value.add_(0.05 * noise)
    return model.eval()
