"""The recording of a run: what each layer is given, without a trace left in the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swm.errors import FamilyError
from swm.memory import working_memory
from swm.memory.working_memory import WorkingMemory
from swm.model.recording import record_run
from swm.model.samples import batch_rows
from swm.model.view import ModelView


@pytest.mark.parametrize("side", ["none", "left"])
def test_what_layers_are_given_is_recorded_without_running_them_on_all_of_the_text(
    view: ModelView, ids: Tensor, side: str
) -> None:
    ids = torch.cat([ids, ids.flip(0), ids])
    padding = torch.tensor([0, 1, 3, 5, 2] * 3)[:, None]
    mask = None if side == "none" else (torch.arange(ids.shape[1]) >= padding).long()
    runs = [0] * len(view.layers)

    def count(layer: int) -> Callable[..., Any]:
        own = view.layers[layer].forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            runs[layer] += 1
            return own(*args, **kwargs)

        return forward

    whole = view.record(ids, mask, 3)
    counting = [count(layer) for layer in range(len(view.layers))]
    for layer, forward in zip(view.layers, counting, strict=True):
        layer.forward = forward
    try:
        first = view.record(ids, mask, 3, only_first=True)
        assert [layer.forward for layer in view.layers] == counting
    finally:
        for layer in view.layers:
            del layer.forward
    assert runs == [1] * len(view.layers)
    torch.testing.assert_close(first.states, whole.states[:1], rtol=0, atol=0)
    assert len(first.calls) == len(whole.calls) == 5
    hidden = first.states[0]
    for position in range(len(view.layers)):
        hidden = view.run_layer(first, position, hidden)
    torch.testing.assert_close(hidden, whole.states[-1], rtol=0, atol=0)


def test_batches_that_are_given_the_same_share_their_calls(llama: ModelView, ids: Tensor) -> None:
    last = len(ids) - 1
    calls = llama.record(torch.cat([ids, ids.flip(0), ids[:last]]), None, len(ids)).calls
    assert all(first is second for first, second in zip(calls[0], calls[1], strict=True))
    mask = torch.ones(2 * len(ids), ids.shape[1], dtype=torch.long)
    mask[0, 0] = 0
    first, second = llama.record(torch.cat([ids, ids]), mask, len(ids)).calls
    assert not first[0].same(second[0])


def test_recording_and_logits_leave_no_trace_in_the_model(view: ModelView, ids: Tensor) -> None:
    with torch.no_grad():
        before = view.model(input_ids=ids).logits
        view.logits(view.record(ids).states[-1])
        after = view.model(input_ids=ids).logits
    assert torch.equal(before, after)
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in view.layers)
    assert "forward" not in vars(view.body)


def test_a_failing_forward_pass_leaves_no_hooks(llama: ModelView, ids: Tensor) -> None:
    with pytest.raises(IndexError):
        llama.record(ids + 1000)
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in llama.layers)


def test_a_body_that_leaves_layers_out_is_refused(llama: ModelView, ids: Tensor) -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = llama.model.get_submodule("model.embed_tokens")
            self.layers = nn.ModuleList(nn.Identity() for _ in range(2))

        def forward(self, input_ids: Tensor, **others: Any) -> Tensor:
            hidden: Tensor = self.layers[0](self.embed(input_ids))
            return hidden

    model = nn.Module()
    model.model = Lazy()
    with pytest.raises(FamilyError, match=r"model\.layers has 2 layers, 1 were run"):
        record_run(model, llama.family, ids, None, [slice(0, len(ids))], False, WorkingMemory())


def test_batches_are_as_large_as_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swm.model.samples.TOKENS_PER_BATCH", 64)
    monkeypatch.setattr("swm.model.samples.FEWEST_TOKENS", 16)
    assert batch_rows(5, 32) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert batch_rows(5, 32, batch_size=3) == [slice(0, 3), slice(3, 5)]
    # Four batches of 32 tokens; no sixteen, which would have less than 16.
    assert batch_rows(16, 8, batches=4) == [slice(i, i + 4) for i in range(0, 16, 4)]
    assert batch_rows(16, 8, batches=16) == [slice(i, i + 2) for i in range(0, 16, 2)]


@pytest.mark.parametrize("batch_size", [None, 3])
def test_states_in_mapped_files_are_the_same_numbers(
    view: ModelView, ids: Tensor, batch_size: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working_memory, "SMALL", 1)
    in_memory = view.record(ids, batch_size=batch_size)
    view.memory = WorkingMemory(limit=0, folder=tmp_path)
    mapped = view.record(ids, batch_size=batch_size)
    assert view.memory.mapped == sum(state.nbytes for state in mapped.states)
    torch.testing.assert_close(mapped.states, in_memory.states, rtol=0, atol=0)
    output, inputs = view.run_watched(mapped, 0, mapped.states[0], "mlp.down")
    assert torch.equal(output, in_memory.states[1])
    assert len(inputs) == len(ids)
    assert list(tmp_path.iterdir()) == []
