"""Where units sit: counts of each family, and cuts that hold every parameter with a channel axis once."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from swm.errors import FamilyError
from swm.model.families import ModelFamily
from swm.model.units import Cut, Geometry, Part, cut_state, cuts, geometry, kept_channels
from swm.model.view import ModelView

PARTS: tuple[Part, ...] = ("attention", "mlp")


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("llama", {}, Geometry(4, 2, 8, 64)),
        ("llama", {"num_attention_heads": 8, "num_key_value_heads": 8}, Geometry(8, 8, 8, 64)),
        ("llama", {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 24}, Geometry(2, 1, 24, 64)),
        ("qwen2", {"intermediate_size": 60}, Geometry(4, 2, 8, 60)),
        ("gemma3_text", {}, Geometry(4, 2, 8, 64)),
        ("phi3", {}, Geometry(4, 2, 8, 64)),
        ("gpt2", {}, Geometry(4, 4, 8, 128)),
        ("gpt_neox", {}, Geometry(4, 4, 8, 64)),
        ("opt", {}, Geometry(4, 4, 8, 64)),
    ],
)
def test_the_widths_are_read_from_the_weights(tiny, view_of, name, changes, expected) -> None:
    view = view_of(tiny(name, **changes))
    assert [geometry(view, i) for i in range(6)] == [expected] * 6


def test_the_cuts_hold_every_channel_of_every_projection_once(view: ModelView) -> None:
    state, shape = view.state(0), geometry(view, 0)
    held: Counter[str] = Counter()
    for part in PARTS:
        found = cuts(view.family, state, shape, part)
        assert [cut.reads for cut in found] == [False] * (len(found) - 1) + [True]
        for cut in found:
            assert cut.channels % shape.units(part) == 0
            held[cut.key] += cut.view(state[cut.key]).numel()
    # What has no channel axis: norms, and the biases of the two readers.
    without = {"attention.o.bias", "mlp.down.bias"}
    assert held == {k: v.numel() for k, v in state.items() if not k.startswith("norms.") and k not in without}


def test_channels_are_counted_unit_by_unit() -> None:
    shape = Geometry(heads=4, kv_heads=2, head_dim=3, mlp=5)
    assert kept_channels(shape, "attention", Cut("attention.q.weight", 0, 0, 12), [1]).tolist() == [6, 7, 8, 9, 10, 11]
    assert kept_channels(shape, "attention", Cut("attention.k.weight", 0, 0, 6), [1]).tolist() == [3, 4, 5]
    assert kept_channels(shape, "mlp", Cut("mlp.up.weight", 0, 0, 5), [0, 3]).tolist() == [0, 3]


def test_a_fused_projection_loses_the_same_heads_in_its_three_blocks(tiny, view_of) -> None:
    view = view_of(tiny("phi3"))
    whole = view.state(0)["attention.qkv.weight"]
    cut = cut_state(view.family, view.state(0), geometry(view, 0), "attention", [1])["attention.qkv.weight"]
    # 4 query heads and 2 KV heads of 8: query rows 16-31 belong to KV head 1, whose rows are 40-47 and 56-63.
    assert torch.equal(cut, whole[[*range(16, 32), *range(40, 48), *range(56, 64)]])


def test_single_query_heads_leave_keys_and_values_alone(tiny, view_of) -> None:
    view = view_of(tiny("phi3"))
    whole = view.state(0)["attention.qkv.weight"]
    cut = cut_state(view.family, view.state(0), geometry(view, 0), "queries", [1, 2])["attention.qkv.weight"]
    # Of 4 query heads of 8 rows, 1 and 2; all rows of keys and values, which begin at 32.
    assert torch.equal(cut, torch.cat([whole[8:24], whole[32:]]))


def test_stored_the_other_way_round_columns_are_written_and_rows_read(tiny, view_of) -> None:
    view = view_of(tiny("gpt2"))
    whole = view.state(0)
    cut = cut_state(view.family, whole, geometry(view, 0), "mlp", [2, 100])
    assert torch.equal(cut["mlp.up.weight"], whole["mlp.up.weight"][:, [2, 100]])
    assert torch.equal(cut["mlp.up.bias"], whole["mlp.up.bias"][[2, 100]])
    assert torch.equal(cut["mlp.down.weight"], whole["mlp.down.weight"][[2, 100]])
    assert cut["mlp.down.bias"] is whole["mlp.down.bias"]


def test_a_row_without_projections_is_refused(tiny) -> None:
    row = ModelFamily("bare", ("llama",), "model.layers", ("model.norm",))
    with pytest.raises(FamilyError, match="'bare' names no projections"):
        geometry(ModelView(tiny("llama"), row), 0)
