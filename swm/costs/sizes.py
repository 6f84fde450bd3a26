"""Costs that follow from shapes alone: parameters, those that a token passes, the KV cache, and all memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import nn

from swm.costs.cost import Conditions, CostUnit, ModelCost
from swm.errors import RecipeError
from swm.memory.byte_size import written_bytes
from swm.model.kv_cache import layer_caches
from swm.model.layer import Layer
from swm.model.shape import idle_parameters
from swm.model.units import Block, Part
from swm.model.view import ModelView


class ParameterCost(ModelCost):
    """Parameters, with `size` for each."""

    def __init__(self, view: ModelView, size: int = 1) -> None:
        super().__init__(view)
        self.size = size
        self._total, self._layers = view.parameters(), view.layer_parameters()

    @property
    def total(self) -> float:
        return self._total * self.size

    def layer(self, position: int) -> float:
        return self._layers[position] * self.size

    def block(self, position: int, part: Block, parameters: int) -> float:
        return parameters * self.size

    def units(self, layer: Layer, part: Part, gone: int) -> float:
        return gone * layer.unit_parameters(part) * self.size


class WeightCost(ParameterCost):
    """Bytes of all that is saved: parameters, and buffers beside them, such as what corrects the scores of a router."""

    def __init__(self, view: ModelView, size: int) -> None:
        super().__init__(view, size)
        self._total += _saved_buffers(view.model)
        self._layers = [count + _saved_buffers(layer) for count, layer in zip(self._layers, view.layers, strict=True)]


def _saved_buffers(module: nn.Module) -> int:
    """How many numbers are saved beside the parameters."""
    return sum(
        value.numel()
        for inner in module.modules()
        for name, value in inner.named_buffers(recurse=False)
        if name not in inner._non_persistent_buffers_set
    )


class ActiveCost(ParameterCost):
    """The parameters that a token passes: experts that its routers do not choose cost nothing."""

    def __init__(self, view: ModelView) -> None:
        super().__init__(view)
        idle = idle_parameters(view)
        if not any(idle or ()):
            raise RecipeError(
                f"all tokens pass all parameters of model_type '{view.config.model_type}', or it is not known how many "
                "experts a token takes; use params or ratio",
                ("active_params",),
            )
        self._idle = idle or []

    @property
    def total(self) -> float:
        return super().total - sum(self._idle)

    def layer(self, position: int) -> float:
        return super().layer(position) - self._idle[position]

    def block(self, position: int, part: Block, parameters: int) -> float:
        return parameters - (self._idle[position] if part == "mlp" else 0)

    def units(self, layer: Layer, part: Part, gone: int) -> float:
        block = layer.experts
        if part not in ("experts", "expert_channels") or block is None:
            return super().units(layer, part, gone)
        parameters = dict(layer.module.named_parameters())
        if part == "experts":
            # A token takes as many as before; what goes is the part of the router that scored these.
            rows = [path for path in block.axes if path in parameters and path not in block.weights]
            return gone * sum(parameters[path].numel() for path in rows) / block.count
        return super().units(layer, part, gone) * min(block.top_k, block.count) / block.count


class CacheCost(ModelCost):
    """Bytes of what a model keeps of `batch` sequences of `context` tokens."""

    def __init__(self, view: ModelView, context: int, batch: int, dtype: torch.dtype) -> None:
        super().__init__(view)
        self.context, self.batch = context, batch
        self._caches = layer_caches(view, dtype)
        # A removed attention keeps two numbers a token, which tell the cache its length.
        self._left = 2 * dtype.itemsize * context * batch

    @property
    def total(self) -> float:
        return sum(cache.size(self.context) for cache in self._caches) * self.batch

    def layer(self, position: int) -> float:
        return self._caches[position].size(self.context) * self.batch

    def block(self, position: int, part: Block, parameters: int) -> float:
        return max(self.layer(position) - self._left, 0) if part == "attention" else 0

    def units(self, layer: Layer, part: Part, gone: int) -> float:
        cache = self._caches[layer.position]
        if part != "attention" or cache.heads != layer.units("attention"):
            return 0
        return gone * cache.growing(self.context) * self.batch / cache.heads


class MemoryCost(ModelCost):
    """Bytes of the weights and of what the model keeps of its sequences."""

    def __init__(self, weights: ParameterCost, cache: CacheCost) -> None:
        super().__init__(weights.view)
        self._both = (weights, cache)

    @property
    def total(self) -> float:
        return sum(cost.total for cost in self._both)

    def layer(self, position: int) -> float:
        return sum(cost.layer(position) for cost in self._both)

    def block(self, position: int, part: Block, parameters: int) -> float:
        return sum(cost.block(position, part, parameters) for cost in self._both)

    def units(self, layer: Layer, part: Part, gone: int) -> float:
        return sum(cost.units(layer, part, gone) for cost in self._both)


class _Counted(CostUnit):
    """A unit that counts parameters."""

    @classmethod
    def made(cls, conditions: Conditions) -> Self:
        return cls()

    @property
    def per_parameter(self) -> float:
        return 1.0

    @staticmethod
    def number(amount: float) -> str:
        return f"{amount:,.0f}"


@dataclass(frozen=True)
class Parameters(_Counted):
    """All parameters."""

    noun: ClassVar[str] = "parameters"
    whole: ClassVar[str] = "the parameters"

    def of(self, view: ModelView) -> ModelCost:
        return ParameterCost(view)


@dataclass(frozen=True)
class ActiveParameters(_Counted):
    """The parameters that a token passes."""

    noun: ClassVar[str] = "parameters that a token passes"
    whole: ClassVar[str] = "the parameters that a token passes"

    def of(self, view: ModelView) -> ModelCost:
        return ActiveCost(view)


@dataclass(frozen=True)
class _OfSequences(CostUnit):
    """Bytes of a model that computes in `dtype`, with `batch` sequences of `context` tokens."""

    asked: ClassVar[tuple[str, ...]] = ("context", "batch", "dtype")

    context: int
    batch: int
    dtype: torch.dtype

    @classmethod
    def made(cls, conditions: Conditions) -> Self:
        return cls(conditions.context or 1, conditions.batch, conditions.dtype)

    def cache(self, view: ModelView) -> CacheCost:
        """What the model keeps of these sequences."""
        return CacheCost(view, self.context, self.batch, self.dtype)

    @staticmethod
    def number(amount: float) -> str:
        return written_bytes(amount)


@dataclass(frozen=True)
class KvCache(_OfSequences):
    """What a model keeps of its sequences."""

    noun: ClassVar[str] = "of KV cache"
    whole: ClassVar[str] = "the KV cache"

    def of(self, view: ModelView) -> ModelCost:
        return self.cache(view)


@dataclass(frozen=True)
class Memory(_OfSequences):
    """The weights, and what a model keeps of its sequences."""

    noun: ClassVar[str] = "of memory"
    whole: ClassVar[str] = "the memory"

    @property
    def per_parameter(self) -> float:
        return float(self.dtype.itemsize)

    def of(self, view: ModelView) -> ModelCost:
        return MemoryCost(WeightCost(view, self.dtype.itemsize), self.cache(view))
