"""A copy of a model's modules shares its numbers, and nothing that is done to it is seen in the model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from zoo import zoo_model
from zoo_multimodal import multimodal_model

from swm.errors import ModelError
from swm.model.fingerprint import fingerprint
from swm.model.shared_copy import empty_copy, own_all_numbers, shared_copy
from swm.testing import tiny_ids

MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: zoo_model("llama", tie_word_embeddings=True),
    "gpt2": lambda: zoo_model("gpt2"),
    "mixtral": lambda: zoo_model("mixtral"),
    "bamba": lambda: zoo_model("bamba"),
    "llava": lambda: multimodal_model("llava"),
}


def places(model: nn.Module) -> dict[str, int]:
    return {name: value.data_ptr() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("make", list(MODELS.values()), ids=list(MODELS))
def test_it_answers_the_same_from_the_same_memory(make: Callable[[], Any]) -> None:
    model = make()
    before = fingerprint(model, model.config)
    ids = tiny_ids(2)
    expected = model(ids, output_hidden_states=True)
    twin: Any = shared_copy(model)
    assert places(twin) == places(model)
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in model.parameters()}
    assert len(list(twin.parameters())) == len(list(model.parameters()))
    assert twin.config is not model.config
    # The hooks by which the library hands out hidden states are hung up anew.
    answer = twin(ids, output_hidden_states=True)
    assert answer.logits.equal(expected.logits)
    assert len(answer.hidden_states) == len(expected.hidden_states)
    assert fingerprint(twin, twin.config) == fingerprint(model, model.config) == before


def test_mode_flags_and_hooks_of_the_model_stay(llama: Any) -> None:
    model: PreTrainedModel = llama.model
    called: list[str] = []
    model.model.layers[0].register_forward_hook(lambda *args: called.append("model"))
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    twin: Any = shared_copy(model)
    twin.eval()
    twin(tiny_ids(1))
    assert not called
    assert all(parameter.requires_grad for parameter in twin.parameters())
    assert model.training
    assert all(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_numbers_of_its_own_may_be_written_into(llama: Any) -> None:
    before = copy.deepcopy(llama.model.state_dict())
    twin: Any = shared_copy(llama.model)
    own_all_numbers(twin)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert all(value.equal(before[name]) for name, value in llama.model.state_dict().items())


def test_an_empty_one_has_the_shapes_and_no_numbers(llama: Any) -> None:
    empty = empty_copy(llama.model)
    assert all(value.is_meta for value in [*empty.parameters(), *empty.buffers()])
    shapes = {name: value.shape for name, value in llama.model.named_parameters()}
    assert {name: value.shape for name, value in empty.named_parameters()} == shapes


def test_what_cannot_be_copied_is_refused_by_its_name(llama: Any) -> None:
    class Stubborn:
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("no")

    llama.model.extra = Stubborn()
    with pytest.raises(ModelError, match=r"the LlamaForCausalLM cannot be copied: TypeError: no; take off what"):
        shared_copy(llama.model)


def test_gradients_of_the_model_are_not_copied(llama: Any, ids: Tensor) -> None:
    llama.model(ids, labels=ids).loss.backward()
    twin: Any = shared_copy(llama.model)
    assert all(parameter.grad is None for parameter in twin.parameters())
    assert all(parameter.grad is not None for parameter in llama.model.parameters())
