"""FLAP: fluctuation by hand, and a bias that keeps the mean of what the reading projection gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from unit_groups import mlp, statistics

from swm.errors import FamilyError
from swm.model.units import READERS, Part
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.pruners.flap import FLAP
from swm.width.compensation import added_bias_parameters, bias_compensation, check_bias
from swm.width.scoring import input_statistics

# Variances over the tokens (divisor 2): 1, 4 and 0.
INPUTS = statistics([[3.0, 2.0, 7.0], [1.0, -2.0, 7.0]])
DOWN = [[1.0, -2.0], [3.0, 0.0], [9.0, 9.0]]


def test_channels_by_hand() -> None:
    group = mlp([[0.0]] * 3, DOWN, inputs=INPUTS)
    torch.testing.assert_close(FLAP().score(group), torch.tensor([1.0 * 5, 4.0 * 9, 0.0]))


def test_a_head_counts_the_mean_of_its_squared_channels() -> None:
    inputs = statistics([[3.0, 2.0, 7.0, 1.0], [1.0, -2.0, 7.0, 3.0]])
    group = mlp([[0.0]] * 4, [*DOWN, [1.0, 1.0]], inputs=inputs, part="attention", units=2)
    torch.testing.assert_close(FLAP().score(group), torch.tensor([(25.0 + 36**2) / 2, (0.0 + 4.0) / 2]))


def test_an_input_that_never_changes_counts_nothing_however_large() -> None:
    inputs = statistics([[1e3, 0.1]] * 50)
    assert inputs.variance.tolist()[1] == pytest.approx(0, abs=1e-8)
    assert (inputs.variance >= 0).all()


def reader_mean(view: ModelView, ids: Tensor, part: Part) -> Tensor:
    """The mean over all tokens of what the first layer's reading projection gives."""
    given: list[Tensor] = []
    module = view.layer(0).projection(READERS[part])
    handle = module.register_forward_hook(lambda m, args, out: given.append(out.detach().reshape(-1, out.shape[-1])))
    with torch.no_grad():
        view.model(input_ids=ids)
    handle.remove()
    return torch.cat(given).mean(dim=0)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("llama", "attention"),
        ("llama", "mlp"),
        ("llama with biases and one KV head", "mlp"),
        ("qwen3", "attention"),
        ("gemma3_text", "attention"),
        ("gpt2", "mlp"),
        ("gpt_neox", "mlp"),
        ("opt", "mlp"),
    ],
)
def test_the_mean_output_of_the_reader_stays(tiny, view_of, ids: Tensor, name: str, part: Part) -> None:
    view, plain = view_of(tiny(name)), view_of(tiny(name))
    units = [1] if part == "attention" else list(range(0, 64, 3))
    expected = reader_mean(view, ids, part)
    mean = input_statistics(view, ids, [0], [part])[0, part].mean
    before = view.parameters()
    biases = bias_compensation(view.layer(0), part, units, mean)
    added = added_bias_parameters(
        view, {(i, part): len(units) if i == 0 else view.layer(1).units(part) for i in range(6)}, part
    )
    keep_units(view, 0, part, units, biases)
    keep_units(plain, 0, part, units)
    torch.testing.assert_close(reader_mean(view, ids, part), expected, rtol=0, atol=1e-5)
    assert (reader_mean(plain, ids, part) - expected).abs().max() > 1e-3
    assert before - view.parameters() == before - plain.parameters() - added
    assert (added > 0) == (name in ("llama", "qwen3", "gemma3_text"))
    ask: dict[str, Any] = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    view.model.generate(input_ids=ids[:1], attention_mask=torch.ones_like(ids[:1]), **ask)


def test_an_own_bias_is_added_to(tiny, view_of, ids: Tensor) -> None:
    view = view_of(tiny("gpt2"))
    state = {k: v.clone() for k, v in view.state(0).items()}
    mean = torch.arange(128.0)
    units = [i for i in range(128) if i not in (3, 100)]
    [(key, bias)] = bias_compensation(view.layer(0), "mlp", units, mean).items()
    assert key == "mlp.down.bias"
    weight = state["mlp.down.weight"]
    torch.testing.assert_close(bias, state[key] + 3 * weight[3] + 100 * weight[100])


def test_biases_that_come_with_a_switch_are_zero_in_every_layer(llama: ModelView, ids: Tensor) -> None:
    mean = input_statistics(llama, ids, [2], ["attention"])[2, "attention"].mean
    keep_units(llama, 2, "attention", [1], bias_compensation(llama.layer(2), "attention", [1], mean))
    assert llama.config.attention_bias is True
    for position in range(6):
        state = llama.state(position)
        for role in ("q", "k", "v", "o"):
            bias = state[f"attention.{role}.bias"]
            assert len(bias) == len(state[f"attention.{role}.weight"])
            assert bias.ne(0).any() == (position == 2 and role == "o")


@pytest.mark.parametrize(
    ("name", "part", "other"),
    [
        ("mistral", "attention", "mlp"),
        ("mistral", "mlp", "attention"),
        ("qwen2", "attention", "mlp"),
        ("qwen3", "mlp", "attention"),
        ("gemma2", "mlp", "attention"),
        ("phi3", "mlp", "attention"),
    ],
)
def test_where_the_class_holds_no_bias_compensation_is_refused(tiny, view_of, name, part, other) -> None:
    view = view_of(tiny(name))
    with pytest.raises(
        FamilyError, match=rf"'{view.config.model_type}' has no bias for its {part} output.*bias: false"
    ):
        check_bias(view.family, view.config, part)
