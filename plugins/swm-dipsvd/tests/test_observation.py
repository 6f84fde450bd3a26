"""The statistics are those of the text, and one layer's are in memory at a time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from swm.errors import ModelError
from swm.model.view import ModelView
from swm_dipsvd.observation import observe

ROLES = ("attention.q", "attention.k", "attention.o", "mlp.gate", "mlp.up", "mlp.down")


def test_moments_are_those_of_what_enters_the_projection(view_of: Callable[..., ModelView], ids: Tensor) -> None:
    view = view_of("llama")
    seen: list[Tensor] = []
    projection = view.layers[3].get_submodule(view.family.projections["mlp.down"])
    handle = projection.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        view.model(input_ids=ids)
    handle.remove()
    x = torch.cat(seen).flatten(0, 1).double()
    found = dict(observe(view, ids, ROLES, frozenset({"gram", "mean_absolute"})))[3]["mlp.down"]
    assert found.inputs == x.shape[1]
    torch.testing.assert_close(found.gram, x.T @ x)
    torch.testing.assert_close(found.mean_absolute, x.abs().mean(dim=0))


def test_projections_that_read_the_same_share_their_moments(view_of: Callable[..., ModelView], ids: Tensor) -> None:
    moments = dict(observe(view_of("llama"), ids, ROLES, frozenset({"gram"})))[0]
    assert moments["attention.q"] is moments["attention.k"]
    assert moments["mlp.gate"] is moments["mlp.up"]
    assert len({id(found) for found in moments.values()}) == 4


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_squared_gradients_are_of_each_sample(family: str, view_of: Callable[..., ModelView], ids: Tensor) -> None:
    view, ids = view_of(family), ids[:3]
    weight = view.layers[2].get_submodule(view.family.projections["mlp.down"]).weight
    squares = torch.zeros_like(weight, dtype=torch.float64)
    for sample in ids:
        view.model.zero_grad()
        view.model(input_ids=sample[None], labels=sample[None]).loss.backward()
        squares += weight.grad.double() ** 2 / len(ids)
    by_input = squares.T if view.family.transposed else squares
    found = dict(observe(view, ids, ("mlp.down",), frozenset({"squared_gradients"})))[2]["mlp.down"]
    torch.testing.assert_close(found.squared_gradients, by_input.mean(dim=0), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("needs", [{"gram"}, {"gram", "squared_gradients"}])
def test_one_layer_is_in_memory_at_a_time(needs: set[str], view_of: Callable[..., ModelView], ids: Tensor) -> None:
    alive: list[weakref.ref[Tensor]] = []
    for _, moments in observe(view_of("llama"), ids, ROLES, frozenset(needs)):  # type: ignore[arg-type]
        alive += [weakref.ref(gram) for gram in {id(m.gram): m.gram for m in moments.values()}.values()]
        gc.collect()
        assert sum(gram() is not None for gram in alive) == 4
        del moments
    assert len(alive) == 6 * 4


def test_numbers_that_are_not_finite_are_refused(view_of: Callable[..., ModelView], ids: Tensor) -> None:
    view = view_of("llama")
    with torch.no_grad():
        view.state(2)["mlp.up.weight"][0, 0] = float("nan")
    with pytest.raises(ModelError, match="the output of layer 2 holds values that are not a number"):
        list(observe(view, ids, ROLES, frozenset({"gram"})))
