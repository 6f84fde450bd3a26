"""What limits a cut: steps of rounding, the parameters that can go, and head counts that a saved model can have."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swm.errors import BudgetError
from swm.model.units import Geometry
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.width.limits import CutLimits, Key, default_rounding, part_rounding, round_units, saved_head_counts

quick = settings(max_examples=200, deadline=None, derandomize=True)


@given(st.integers(1, 500), st.integers(0, 500), st.integers(1, 64))
@quick
def test_rounding_gives_the_nearest_multiple_of_what_there_is(units: int, kept: int, round_to: int) -> None:
    found = round_units(min(kept, units), units, round_to)
    assert 1 <= found <= units
    assert found == units or (found % round_to == 0 and abs(found - kept) <= max(round_to / 2, round_to - kept))


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(11008, 32), (1536, 32), (512, 32), (511, 16), (256, 16), (172, 8), (64, 4), (16, 1), (1, 1)],
)
def test_channels_go_in_steps_that_hardware_likes(channels: int, expected: int) -> None:
    assert default_rounding(channels) == expected


@pytest.mark.parametrize("local", [True, False])
def test_what_cannot_be_met_is_refused(llama: ModelView, local: bool) -> None:
    keys: list[Key] = [(i, "mlp") for i in range(6)]
    limits = CutLimits.of(llama, keys, {"attention": 1, "mlp": 4}, local)
    # 6 layers of 64 channels of 96 parameters; at least 4 of them stay.
    with pytest.raises(BudgetError, match="remove 40,000 parameters; these units and layers hold 34,560 that can go"):
        limits.check_goal(40_000)
    step, where = (6 * 4 * 96, "all layers") if local else (4 * 96, "a layer")
    assert limits.smallest_step() == step
    limits.check_goal(step / 2 + 1)
    with pytest.raises(BudgetError, match=f"one rounding step in {where} removes {step:,}"):
        limits.check_goal(step / 2)
    with pytest.raises(BudgetError, match="hold 0 that can go"):
        CutLimits.of(llama, keys, {"attention": 1, "mlp": 64}, local).check_goal(1)


def test_a_unit_takes_its_parameters_along(llama: ModelView) -> None:
    limits = CutLimits.of(llama, [(4, "mlp"), (1, "attention")], {"attention": 1, "mlp": 4}, local=False)
    # In the order of the layers, whatever the order of the keys.
    assert limits.sizes == {(1, "attention"): (2 * 2 + 2) * 8 * 32, (4, "mlp"): 3 * 32}
    assert limits.removed({(1, "attention"): 1, (4, "mlp"): 60}) == 6 * 8 * 32 + 4 * 3 * 32


def test_only_head_counts_that_can_be_saved_are_possible(llama: ModelView) -> None:
    limits = CutLimits.of(llama, [(0, "queries"), (0, "mlp")], {"queries": 1, "mlp": 1}, True, head_counts=[2, 4])
    assert [limits.possible(n, (0, "queries")) for n in (1, 2, 3, 4)] == [2, 2, 4, 4]
    assert limits.possible(3, (0, "mlp")) == 3


def test_query_heads_go_evenly_from_all_kv_heads() -> None:
    assert part_rounding(Geometry(8, 4, 8, 96), 1, None) == {"attention": 1, "queries": 4, "mlp": 4}
    assert part_rounding(Geometry(8, 4, 8, 96), 2, 6) == {"attention": 2, "queries": 8, "mlp": 6}


def test_a_number_of_heads_that_biases_make_impossible_to_save_is_refused(tiny, view_of) -> None:
    view = view_of(tiny("llama", num_attention_heads=8, num_key_value_heads=4, head_dim=8))
    assert saved_head_counts(view, ["attention"], with_biases=False) is None
    assert saved_head_counts(view, ["attention"], with_biases=True) == [1, 2, 4]
    assert saved_head_counts(view, ["mlp"], with_biases=True) is None
    for position in range(6):
        keep_units(view, position, "attention", [0, 1, 2])
    with pytest.raises(BudgetError, match=r"left 3 KV heads, .* cannot be saved .* allowed: \[1, 2"):
        saved_head_counts(view, ["mlp"], with_biases=True)
