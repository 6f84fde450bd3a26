"""What models cost in each unit: what real caches and real weights take, to the byte."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import zoo
from transformers import PreTrainedModel

from swm.costs.sizes import ActiveParameters, KvCache, Memory, Parameters
from swm.derivation.known_model import known_model
from swm.errors import FamilyError, RecipeError
from swm.loading.empty_model import empty_view
from swm.model.kv_cache import LayerCache, kv_cache_of, layer_caches
from swm.model.shape import active_parameters
from swm.model.surgery import keep_layers
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.plugins.loading import Plugins
from swm.testing import tiny_model

View = Callable[[PreTrainedModel], ModelView]
# Grouped queries, windows, latents, experts, states of linear attention, layers that read what another one keeps.
SORTS = ("llama", "gemma3_text", "deepseek_v3", "mixtral", "qwen3_next", "gemma4_text, shared", "gpt2", "falcon_h1")
UNKNOWN = ("recurrent_gemma",)
# Its states are float32 whatever its weights are, and its forward does not convert them.
FLOAT32_ALONE = ("minimax",)
REFUSED = ("zamba2", "gemma3n_text")
OTHERS = [name for name in zoo.CAUSAL if name not in (*SORTS, *REFUSED)]


@torch.no_grad()
def real_cache(model: PreTrainedModel, context: int, batch: int = 1) -> list[int]:
    """The bytes that each layer keeps of so many tokens, in a cache that was filled."""
    ids = torch.randint(3, 96, (batch, context))
    [cache] = kv_cache_of(model(input_ids=ids, use_cache=True)).values()
    return [tensors(layer) for layer in cache.layers]


def tensors(layer: Any) -> int:
    held = [value for value in (getattr(layer, name, None) for name in ("keys", "values"))]
    states: Sequence[Any] = [*getattr(layer, "conv_states", {}).values()]
    states = [*states, *getattr(layer, "recurrent_states", {}).values()]
    return sum(one.numel() * one.element_size() for one in [*held, *states] if isinstance(one, torch.Tensor))


@pytest.mark.parametrize("name", [*SORTS, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_the_cache_is_what_a_real_one_takes(name: str, plugins: Plugins) -> None:
    model = zoo.zoo_model(name)
    family = known_model(model.config, plugins.registry, False).family
    view = ModelView(model, family)
    empty = empty_view(model.config, [family])
    for context in (3, 24):
        if name in UNKNOWN:
            with pytest.raises(FamilyError, match=r"cannot be told|whose size is not known"):
                KvCache(context, 2, torch.float32).of(empty)
            continue
        cost = KvCache(context, 2, torch.float32).of(empty)
        assert list(cost.layers) == real_cache(model, context, batch=2)
        assert list(KvCache(context, 2, torch.float32).of(view).layers) == list(cost.layers)
        if name in FLOAT32_ALONE:
            with pytest.raises(FamilyError, match="cannot be told"):
                KvCache(context, 2, torch.bfloat16).of(view)
        else:
            assert KvCache(context, 2, torch.bfloat16).of(view).total <= cost.total


def test_windows_bound_what_a_layer_keeps(view_of: View) -> None:
    view = view_of(tiny_model("gemma3_text"))
    sliding, full = (layer_caches(view, torch.float32)[i] for i in (0, 2))
    # Keys and values of two heads of 8; of a window of 4 tokens the newest is not kept.
    assert sliding == LayerCache(each=2 * 2 * 8 * 4, window=3, heads=2)
    assert full == LayerCache(each=2 * 2 * 8 * 4, heads=2)
    assert (sliding.size(1000), full.size(1000)) == (3 * 128, 1000 * 128)


def test_a_latent_stands_for_all_heads(view_of: View) -> None:
    view = view_of(zoo.zoo_model("deepseek_v3"))
    cost = KvCache(10, 1, torch.float32).of(view)
    # 16 numbers of the latent and 8 that are rotated.
    assert cost.layers == ((16 + 8) * 4 * 10,) * 4
    assert "attention" not in cost.lowering()


def test_states_do_not_grow(view_of: View) -> None:
    view = view_of(zoo.zoo_model("qwen3_next"))
    caches = layer_caches(view, torch.float32)
    assert [one.each > 0 for one in caches] == [kind == "full_attention" for kind in view.config.layer_types]
    assert [one.fixed > 0 for one in caches] == [kind == "linear_attention" for kind in view.config.layer_types]


def test_layers_that_read_what_another_keeps_keep_nothing(view_of: View) -> None:
    caches = layer_caches(view_of(zoo.zoo_model("gemma4_text, shared")), torch.float32)
    assert [one.each > 0 for one in caches] == [True, True, False, False]


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "mixtral"])
def test_what_goes_with_layers_and_units_is_the_difference(name: str, view_of: View) -> None:
    units = [Parameters(), KvCache(24, 1, torch.bfloat16), Memory(24, 3, torch.float16)]
    units += [ActiveParameters()] if name == "mixtral" else []
    for unit in units:
        view = view_of(tiny_model(name))
        before = unit.of(view)
        saved = before.units(view.layer(2), "attention", 1)
        if name != "mixtral":
            saved += before.units(view.layer(4), "mlp", 8)
        keep_units(view, 2, "attention", [1])
        if name != "mixtral":
            keep_units(view, 4, "mlp", range(56))
        after = unit.of(view)
        assert after.total == before.total - saved
        gone = after.layer(0) + after.layer(5)
        keep_layers(view, [1, 2, 3, 4])
        assert unit.of(view).total == after.total - gone


def test_experts_that_a_token_is_not_sent_to_cost_nothing(view_of: View) -> None:
    view = view_of(tiny_model("mixtral"))
    cost = ActiveParameters().of(view)
    assert cost.total == active_parameters(view)
    layer = view.layer(0)
    assert layer.experts is not None
    # A token takes as many experts as before; the router has a row fewer.
    assert cost.units(layer, "experts", 1) == 32
    share = layer.experts.top_k / layer.experts.count
    assert cost.units(layer, "expert_channels", 4) == 4 * layer.unit_parameters("expert_channels") * share


def test_all_tokens_pass_all_parameters_of_a_dense_model(llama: ModelView) -> None:
    with pytest.raises(RecipeError, match="all tokens pass all parameters of model_type 'llama'"):
        ActiveParameters().of(llama)


def test_memory_is_weights_and_cache_and_nothing_is_changed(view_of: View) -> None:
    model = tiny_model("mixtral")
    before = copy.deepcopy(model.state_dict())
    view = view_of(model)
    cost = Memory(16, 2, torch.float32).of(view)
    assert cost.total == view.parameters() * 4 + sum(real_cache(model, 16, batch=2))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())


def test_what_cannot_be_run_without_numbers_is_refused(llama: ModelView, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no numbers")

    monkeypatch.setattr(type(llama.layers[0]), "forward", failing)
    with pytest.raises(FamilyError, match="what a model of type 'llama' keeps between tokens cannot be told"):
        layer_caches(llama, torch.float32)
