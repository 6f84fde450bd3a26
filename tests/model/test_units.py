"""Where units sit: counts of each family, and cuts that hold every parameter with a channel axis once."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from swm.builtin.families import BUILTIN_FAMILIES
from swm.errors import FamilyError
from swm.model.families import ModelFamily
from swm.model.units import Geometry, Part, channel_slices
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
    assert [view.layer(i).geometry for i in range(6)] == [expected] * 6


def test_the_cuts_hold_every_channel_of_every_projection_once(view: ModelView) -> None:
    state, shape = view.state(0), view.layer(0).geometry
    held: Counter[str] = Counter()
    for part in PARTS:
        slices = channel_slices(view.family, state, shape, part)
        assert [piece.reads for piece in slices] == [False] * (len(slices) - 1) + [True]
        for piece in slices:
            assert piece.channels == shape.units(part) * piece.unit_size
            held[piece.key] += piece.view(state[piece.key]).numel()
    # What has no channel axis: norms, and the biases of the two readers.
    without = {"attention.o.bias", "mlp.down.bias"}
    assert held == {k: v.numel() for k, v in state.items() if not k.startswith("norms.") and k not in without}


def test_channels_are_counted_unit_by_unit() -> None:
    shape = Geometry(heads=4, kv_heads=2, head_dim=3, mlp=5)
    family, names = BUILTIN_FAMILIES[0], ("attention.q.weight", "attention.k.weight", "mlp.up.weight")
    query, key, reader = channel_slices(family, names, shape, "attention")
    assert (query.key, query.kept([1]).tolist()) == ("attention.q.weight", [6, 7, 8, 9, 10, 11])
    assert (key.key, key.kept([1]).tolist()) == ("attention.k.weight", [3, 4, 5])
    assert (reader.key, reader.kept([0]).tolist()) == ("attention.o.weight", [0, 1, 2, 3, 4, 5])
    assert key.removed([1]).tolist() == [True] * 3 + [False] * 3
    up = channel_slices(family, names, shape, "mlp")[0]
    assert up.kept([0, 3]).tolist() == [0, 3]
    assert up.removed([0, 3]).tolist() == [False, True, True, False, True]


def test_a_fused_projection_loses_the_same_heads_in_its_three_blocks(tiny, view_of) -> None:
    view = view_of(tiny("phi3"))
    whole = view.state(0)["attention.qkv.weight"]
    cut = view.layer(0).state_with("attention", [1])["attention.qkv.weight"]
    # 4 query heads and 2 KV heads of 8: query rows 16-31 belong to KV head 1, whose rows are 40-47 and 56-63.
    assert torch.equal(cut, whole[[*range(16, 32), *range(40, 48), *range(56, 64)]])


def test_single_query_heads_leave_keys_and_values_alone(tiny, view_of) -> None:
    view = view_of(tiny("phi3"))
    whole = view.state(0)["attention.qkv.weight"]
    cut = view.layer(0).state_with("queries", [1, 2])["attention.qkv.weight"]
    # Of 4 query heads of 8 rows, 1 and 2; all rows of keys and values, which begin at 32.
    assert torch.equal(cut, torch.cat([whole[8:24], whole[32:]]))


def test_stored_the_other_way_round_columns_are_written_and_rows_read(tiny, view_of) -> None:
    layer = view_of(tiny("gpt2")).layer(0)
    whole = layer.state
    cut = layer.state_with("mlp", [2, 100])
    assert torch.equal(cut["mlp.up.weight"], whole["mlp.up.weight"][:, [2, 100]])
    assert torch.equal(cut["mlp.up.bias"], whole["mlp.up.bias"][[2, 100]])
    assert torch.equal(cut["mlp.down.weight"], whole["mlp.down.weight"][[2, 100]])
    assert cut["mlp.down.bias"] is whole["mlp.down.bias"]


def test_a_row_without_projections_is_refused(tiny) -> None:
    row = ModelFamily("bare", ("llama",), "model.layers", ("model.norm",))
    with pytest.raises(FamilyError, match="'bare' names no projections"):
        _ = ModelView(tiny("llama"), row).layer(0).geometry
