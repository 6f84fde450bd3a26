"""What pruners are given: gradients and statistics equal those of plain PyTorch, one layer at a time."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.errors import ModelError, PlanError
from swm.interfaces.progress import Silent
from swm.interfaces.width import Need, UnitGroup, WidthPruner
from swm.model.units import READERS, Part
from swm.model.view import ModelView
from swm.pruners.flap import FLAP
from swm.pruners.llm_pruner import LLMPruner
from swm.width.gradients import layer_gradients, loss_gradient
from swm.width.scoring import input_statistics, score_units, unit_group

PARTS: tuple[Part, ...] = ("attention", "mlp")
ALL = set(range(6))


def close(actual: Tensor, expected: Tensor, relative: float = 1e-4) -> None:
    """Within a share of the largest number: single gradients may be as small as the rounding of the others."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= relative * expected.abs().max() + 1e-12


def autograd(view: ModelView, ids: Tensor) -> list[dict[str, Tensor]]:
    """Gradients of the model's own loss by layer, from a copy."""
    model: Any = copy.deepcopy(view.model)
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    twin = ModelView(model, view.family)
    return [
        {view.family.canonical(k): p.grad for k, p in layer.named_parameters() if p.grad is not None}
        for layer in twin.layers
    ]


def gradients(view: ModelView, ids: Tensor) -> dict[int, dict[str, Tensor]]:
    return {position: found for position, found, _ in layer_gradients(view, ids, ALL, False)}


def test_gradients_are_those_of_the_models_own_loss(view: ModelView, ids: Tensor) -> None:
    expected, found = autograd(view, ids), gradients(view, ids)
    assert list(found) == [5, 4, 3, 2, 1, 0]
    for position, by_key in found.items():
        assert set(by_key) == {k for k in view.state(position) if k.endswith(".weight") and not k.startswith("norms.")}
        for key, gradient in by_key.items():
            close(gradient, expected[position][key])


def test_the_size_of_batches_does_not_matter(llama: ModelView, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, statistics = gradients(llama, ids), input_statistics(llama, ids, [1, 4], PARTS)
    monkeypatch.setattr("swm.model.samples.TOKENS_PER_BATCH", 2 * ids.shape[1])
    for position, by_key in gradients(llama, ids).items():
        for key, gradient in by_key.items():
            close(gradient, whole[position][key], 1e-5)
    for place, found in input_statistics(llama, ids, [1, 4], PARTS).items():
        for name in ("mean", "mean_absolute", "mean_square"):
            torch.testing.assert_close(getattr(found, name), getattr(statistics[place], name))


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt2"])
def test_squared_gradients_are_those_of_single_samples(tiny, view_of, ids: Tensor, name: str) -> None:
    view = view_of(tiny(name))
    single = [autograd(view, ids[i : i + 1]) for i in range(len(ids))]
    whole = autograd(view, ids)
    for position, found, squares in layer_gradients(view, ids, ALL, True):
        assert found.keys() == squares.keys()
        for key, square in squares.items():
            close(square, torch.stack([s[position][key].square() for s in single]).mean(dim=0))
            close(found[key], whole[position][key])


@pytest.fixture
def faint(llama: ModelView) -> ModelView:
    """A float16 model whose gradients are too small for float16."""
    model: Any = llama.model
    model.lm_head.weight.data *= 1e-4
    return ModelView(model.half(), llama.family)


@pytest.mark.parametrize("scale", [2.0**16, 2.0**40])
def test_gradients_that_float16_cannot_hold_are_those_of_float32(
    scale: float, faint: ModelView, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = ModelView(copy.deepcopy(faint.model).float(), faint.family)
    expected = {position: (found, squares) for position, found, squares in layer_gradients(wide, ids, ALL, True)}
    lost = [gradient.half() == 0 for found, _ in expected.values() for gradient in found.values()]
    assert sum(int(zeros.sum()) for zeros in lost) > sum(zeros.numel() for zeros in lost) / 30
    monkeypatch.setattr("swm.training.master_weights.FLOAT16_SCALE", scale)
    for position, found, squares in layer_gradients(faint, ids, ALL, True):
        for actual, right in zip((found, squares), expected[position], strict=True):
            assert actual.keys() == right.keys()
            for key, gradient in actual.items():
                assert gradient.dtype is torch.float32
                close(gradient, right[key], 0.02)


def test_a_scale_that_is_too_large_for_one_layer_is_halved_there(
    faint: ModelView, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gradients(faint, ids)
    given: list[Tensor] = []
    plain = torch.autograd.grad

    def overflowing(outputs: Any, inputs: list[Tensor], upstream: Any = None, **rest: Any) -> Any:
        found = plain(outputs, inputs, upstream, **rest)
        if upstream is not None:
            given.append(upstream)
            if len(given) in (3, 4):
                found[1][0, 0] = torch.inf
        return found

    monkeypatch.setattr(torch.autograd, "grad", overflowing)
    for position, by_key in gradients(faint, ids).items():
        for key, gradient in by_key.items():
            close(gradient, expected[position][key], 0.02)
    assert len(given) == 6 + 2
    assert torch.equal(given[4], given[2] / 4)


def test_a_gradient_that_is_finite_at_no_scale_is_an_error(
    faint: ModelView, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = torch.autograd.grad

    def broken(outputs: Any, inputs: list[Tensor], *upstream: Any) -> Any:
        return tuple(found * torch.nan for found in plain(outputs, inputs, *upstream))

    monkeypatch.setattr(torch.autograd, "grad", broken)
    with pytest.raises(ModelError, match=r"the gradient behind layer 5 has .* in float16; they may fit into dtype"):
        gradients(faint, ids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_wider_types_are_neither_scaled_nor_cast(
    dtype: torch.dtype, llama: ModelView, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = ModelView(llama.model.to(dtype), llama.family)
    expected = gradients(view, ids)
    monkeypatch.setattr("swm.training.master_weights.FLOAT16_SCALE", torch.nan)
    for position, by_key in gradients(view, ids).items():
        assert all(gradient.dtype is dtype for gradient in by_key.values())
        assert all(torch.equal(gradient, expected[position][key]) for key, gradient in by_key.items())


def test_only_the_wanted_layers_are_given_and_none_below_is_run(
    llama: ModelView, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gradients(llama, ids)
    run: list[int] = []
    plain = ModelView.run_batch

    def watched(self: ModelView, recording: Any, batch: int, position: int, hidden: Tensor) -> Tensor:
        run.append(position)
        return plain(self, recording, batch, position, hidden)

    monkeypatch.setattr(ModelView, "run_batch", watched)
    found = {position: by_key for position, by_key, _ in layer_gradients(llama, ids, {2, 4}, False)}
    assert list(found) == [4, 2]
    assert run == [5, 4, 3, 2]
    for position, by_key in found.items():
        assert all(torch.equal(gradient, expected[position][key]) for key, gradient in by_key.items())


def test_one_layer_at_a_time_has_gradients(llama: ModelView, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    plain = torch.autograd.grad

    def watched(outputs: Any, inputs: list[Tensor], *rest: Any) -> Any:
        # One input is the hidden state.
        taken.append(len(inputs) - 1)
        return plain(outputs, inputs, *rest)

    monkeypatch.setattr(torch.autograd, "grad", watched)
    layers = layer_gradients(llama, ids, ALL, False)
    loss = len(ids)
    for done, (position, _, _) in enumerate(layers, start=1):
        assert position == 6 - done
        # Each sample's loss, then the seven projections of the layers so far.
        assert taken == [0] * loss + [7] * done
        assert not any(p.requires_grad for p in llama.model.parameters())


@pytest.mark.parametrize("needs", ["gradients", "squared_gradients", "inputs", ""])
def test_scoring_leaves_the_model_as_it_was(llama: ModelView, ids: Tensor, needs: Any) -> None:
    model = llama.model
    model.get_parameter("model.layers.1.mlp.up_proj.weight").requires_grad_(False)
    flags, before = [p.requires_grad for p in model.parameters()], llama.fingerprint()
    hooks = sum(len(m._forward_pre_hooks) for m in model.modules())
    score_units(llama, ids, Asks(needs), range(6), PARTS, Silent().task("", 6).__enter__())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert sum(len(m._forward_pre_hooks) for m in model.modules()) == hooks
    assert llama.fingerprint() == before
    assert torch.is_grad_enabled()


@dataclass(frozen=True)
class Asks(WidthPruner):
    """Returns what it is told to."""

    name = "asks"

    need: Need | str = ""
    score_of: Any = None

    def needs(self) -> frozenset[Need]:
        return frozenset({self.need}) if self.need else frozenset()  # type: ignore[arg-type]

    def score(self, group: UnitGroup) -> Tensor:
        assert (group.inputs is not None) == (self.need == "inputs")
        assert all((w.gradient is not None) == ("gradients" in self.need) for w in group.weights)
        assert all((w.squared_gradient is not None) == (self.need == "squared_gradients") for w in group.weights)
        result: Tensor = torch.ones(group.units) if self.score_of is None else self.score_of(group)
        return result


@pytest.mark.parametrize(
    ("score_of", "message"),
    [
        (lambda g: [1.0] * g.units, r"'asks' returned a list; score\(\) gives a tensor"),
        (lambda g: torch.ones(g.units + 1), r"'asks' returned \(3,\) for 2 units of the attention of layer 5"),
        (lambda g: torch.ones(g.units, 1), r"returned \(2, 1\) for 2 units"),
        (lambda g: torch.full((g.units,), torch.nan), "numbers that are not finite for layer 5"),
        (lambda g: torch.full((g.units,), torch.inf), "not finite"),
    ],
)
@pytest.mark.parametrize("need", ["gradients", ""])
def test_a_pruner_that_returns_no_scores_is_named_and_the_model_stays(
    llama: ModelView, ids: Tensor, score_of: Any, message: str, need: str
) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        score_units(llama, ids, Asks(need, score_of), range(6), PARTS, Silent().task("", 6).__enter__())
    assert caught.traceback  # the frames are alive, and yet:
    assert all(p.requires_grad for p in llama.model.parameters())


def test_a_layer_is_named_by_its_original_number(llama: ModelView, ids: Tensor) -> None:
    llama.numbers = [0, 1, 2, 3, 7, 9]
    bad = Asks("", lambda g: torch.full((g.units,), torch.nan))
    with pytest.raises(PlanError, match="layer 9"):
        score_units(llama, ids, bad, range(6), PARTS, Silent().task("", 6).__enter__())


def test_a_loss_that_is_not_finite_is_an_error(llama: ModelView, ids: Tensor) -> None:
    recording = llama.record(ids)
    llama.model.get_parameter("model.norm.weight").data[0] = torch.nan
    with pytest.raises(ModelError, match="loss on the calibration text is not finite"):
        loss_gradient(llama, recording)
    with pytest.raises(ModelError, match="next-token scores hold values that are not a number"):
        gradients(llama, ids)


def test_input_statistics_are_those_of_the_readers_inputs(view: ModelView, ids: Tensor) -> None:
    seen: dict[tuple[int, str], list[Tensor]] = {}
    handles = []
    for position in (0, 3):
        for part in PARTS:
            module = view.layer(position).projection(READERS[part])
            keep = seen.setdefault((position, part), [])
            handles.append(module.register_forward_pre_hook(lambda m, args, keep=keep: keep.append(args[0])))
    with torch.no_grad():
        for i in range(len(ids)):
            view.model(input_ids=ids[i : i + 1])
    for handle in handles:
        handle.remove()
    found = input_statistics(view, ids, [0, 3], PARTS)
    assert found.keys() == seen.keys()
    for key, inputs in seen.items():
        x = torch.cat([value.reshape(-1, value.shape[-1]) for value in inputs])
        statistics = found[key]
        assert statistics.tokens == len(x) == ids.numel()
        torch.testing.assert_close(statistics.mean, x.mean(dim=0), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(statistics.mean_absolute, x.abs().mean(dim=0), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(statistics.mean_square, x.square().mean(dim=0), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(statistics.variance, x.var(dim=0, correction=0), rtol=1e-3, atol=1e-6)


def test_statistics_are_taken_where_compensation_needs_them(llama: ModelView, ids: Tensor) -> None:
    task = Silent().task("", 6).__enter__()
    assert score_units(llama, ids, FLAP(), [1], ["mlp"], task).means.keys() == {(1, "mlp")}
    assert not score_units(llama, ids, LLMPruner(), [1], ["mlp"], task).means


@pytest.mark.parametrize("name", ["llama", "phi3", "gpt2"])
def test_a_group_shows_weights_and_gradients_channel_by_channel(tiny, view_of, ids: Tensor, name: str) -> None:
    view = view_of(tiny(name))
    layer = view.layer(2)
    state = layer.state
    group = unit_group(layer, "mlp", gradients={k: 2 * v for k, v in state.items()})
    assert [w.reads for w in group.weights] == [False] * (len(group.weights) - 1) + [True]
    assert sum(w.weight.numel() for w in group.weights) == sum(
        v.numel() for k, v in state.items() if k.startswith("mlp.") and k.endswith(".weight")
    )
    down = state["mlp.down.weight"]
    assert torch.equal(group.reader.weight, down if view.family.transposed else down.T)
    for weight in group.weights:
        assert weight.weight.shape == (layer.geometry.mlp, 32)
        assert torch.equal(weight.gradient, 2 * weight.weight)
        assert weight.squared_gradient is None
