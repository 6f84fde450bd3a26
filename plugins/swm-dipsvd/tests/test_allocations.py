"""How much each layer keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from swm.errors import PlanError, RecipeError
from swm.interfaces.progress import Silent
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
from swm_dipsvd import AllocationContext, Shares
from swm_dipsvd.allocation import balanced, checked
from swm_dipsvd.allocations.dip_heuristic import DipHeuristic, effective_rank, fisher_sensitivity, standing
from swm_dipsvd.allocations.uniform import Uniform
from swm_dipsvd.allocations.vector import Vector

# Printed by the released notebook for Vicuna-7B at a kept ratio of 0.8: its inputs s and u, and its result.
SENSITIVITY = """
2.986268 3.761583 11.251256 15.371121 13.052242 18.784036 15.404855 19.768367 6.012374 6.159839 7.141430 8.213410
9.543910 9.929666 9.712910 9.890080 6.063272 6.654031 6.259428 8.123290 9.162801 9.636977 9.982599 11.255226 9.547003
11.194137 9.734474 9.668748 9.080344 8.929488 5.004766 5.622940"""
SPREAD = """
0.349912 3.181203 2.344080 1.720236 1.256352 0.952428 0.755144 0.595184 0.440556 0.280596 0.173956 0.099308 0.008665
-0.071315 -0.167291 -0.273931 -0.348579 -0.428559 -0.497875 -0.545863 -0.583187 -0.636507 -0.657835 -0.679163 -0.705823
-0.737815 -0.775139 -0.807131 -0.855119 -0.892443 -1.089727 -1.404315"""
RESULT = """
0.639385 0.902519 0.98 0.98 0.973519 0.98 0.939725 0.945185 0.823931 0.813427 0.816794 0.820734 0.822647 0.817107
0.805604 0.795282 0.758634 0.756718 0.746660 0.755244 0.756830 0.752899 0.751876 0.754313 0.744198 0.746571 0.736437
0.732162 0.723878 0.718580 0.677636 0.631505"""


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split()]


def context(view: ModelView, ids: Tensor, kept: float = 0.7) -> AllocationContext:
    return AllocationContext(view, ids, kept, 0, Silent(), lambda ratios, samples: 0.0, lambda: None, dict)


def test_the_heuristic_gives_the_released_vector() -> None:
    found = DipHeuristic().shares(numbers(SENSITIVITY), numbers(SPREAD), 0.8)
    assert found == pytest.approx(numbers(RESULT), abs=1e-5)
    assert sum(found) == pytest.approx(25.6, abs=1e-9)


def test_the_printed_inputs_are_normalised_as_here() -> None:
    f = 1 / torch.tensor(numbers(SENSITIVITY), dtype=torch.float64)
    torch.testing.assert_close(fisher_sensitivity(5 * f), 1 / f, rtol=1e-6, atol=0)
    u = torch.tensor(numbers(SPREAD), dtype=torch.float64)
    torch.testing.assert_close(standing(-3 * u + 10), u, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "sizes"),
    [(1, [1]), (3, [1, 1, 1]), (4, [1, 1, 1, 1]), (5, [1, 1, 1, 2]), (6, [1, 2, 1, 2]), (7, [1, 2, 2, 2]),
     (30, [7, 8, 7, 8]), (32, [8, 8, 8, 8])],
)  # fmt: skip
def test_quarters_are_cut_where_the_released_notebook_cuts(layers: int, sizes: list[int]) -> None:
    # Of equal gradients each is one over the size of its quarter.
    wanted = [float(size) for size in sizes for _ in range(size)]
    assert fisher_sensitivity(torch.ones(layers, dtype=torch.float64)).tolist() == pytest.approx(wanted, rel=1e-6)


def test_the_sensitivity_of_five_layers_by_hand() -> None:
    found = fisher_sensitivity(torch.tensor([1.0, 2.0, 3.0, 4.0, 6.0], dtype=torch.float64))
    assert found.tolist() == pytest.approx([1, 1, 1, 10 / 4, 10 / 6], rel=1e-6)


def test_the_shares_of_five_layers_by_hand() -> None:
    # Of s: 0 and 1 but for 1e-5 and (10/6 - 1) / 1.5 = 4/9; of u: 0, 1/2, 1. With beta 1/2, w = sqrt(s u).
    found = DipHeuristic(beta=0.5, delta=0.1).shares([1, 1, 1, 2.5, 10 / 6], [-1, 0, 0, 0, 1], 0.7)
    w = [0.0, 0.0, 0.0, 0.5**0.5, (4 / 9) ** 0.5]
    raw = [0.7 + 0.1 * (2 * each / w[3] - 1) for each in w]
    assert found == pytest.approx([each * 3.5 / sum(raw) for each in raw], abs=1e-3)


def test_the_effective_rank_by_hand() -> None:
    values = torch.diag(torch.tensor([50.0, 40.0, 6.0, 4.0]))
    # 0.50, 0.90, 0.96.
    assert effective_rank(values) == 3
    assert effective_rank(torch.ones(2, 5, 4)) == 1


@pytest.mark.parametrize("kept", [0.05, 0.2, 0.5, 0.8, 0.97, 0.999])
def test_the_heuristic_keeps_what_is_asked(kept: float) -> None:
    found = DipHeuristic(delta=0.25).shares(numbers(SENSITIVITY), numbers(SPREAD), kept)
    assert all(0 < ratio <= 1 for ratio in found)
    assert sum(found) / len(found) == pytest.approx(kept, abs=1e-6)


def test_layers_that_are_alike_keep_the_same() -> None:
    assert DipHeuristic().shares([2.0] * 4, [0.0] * 4, 0.6) == pytest.approx([0.6] * 4)


@pytest.mark.parametrize(("family", "layers"), [("llama", 6), ("llama", 5), ("qwen2", 7), ("opt", 6), ("gpt2", 6)])
def test_the_heuristic_observes_gradients_and_outputs(
    family: str, layers: int, view_of: Callable[..., ModelView], ids: Tensor
) -> None:
    view = view_of(family, num_hidden_layers=layers)
    shares = DipHeuristic(batch=4).allocate(context(view, ids))
    assert sum(shares.kept) / layers == pytest.approx(0.7)
    gradients = torch.zeros(layers, dtype=torch.float64)
    ranks = torch.zeros(layers, dtype=torch.float64)
    for batch in torch.split(ids, 4):
        view.model.zero_grad()
        out = view.model(input_ids=batch, labels=batch, output_hidden_states=True)
        out.loss.backward()
        for i, layer in enumerate(view.layers):
            for name, p in layer.named_parameters():
                # Biases that no training has touched are all zero and left out.
                if "norm" not in name and "ln_" not in name and p.detach().any():
                    assert p.grad is not None
                    gradients[i] += float(p.grad.norm() / p.detach().norm())
        # What the released code reads: the last one is behind the final norm.
        ranks += torch.tensor([effective_rank(state.detach()) for state in out.hidden_states[1:]]) / 2
    assert shares.facts["effective_rank"] == ranks.tolist()
    assert shares.facts["sensitivity"] == pytest.approx(fisher_sensitivity(gradients).tolist(), rel=1e-4)


def test_biases_that_only_hold_room_count_for_nothing(view_of: Callable[..., ModelView], ids: Tensor) -> None:
    plain, roomy = view_of("llama"), view_of("llama", attention_bias=True)
    roomy.model.load_state_dict(plain.model.state_dict(), strict=False)
    with torch.no_grad():
        for name, parameter in roomy.model.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
    found = [DipHeuristic().allocate(context(view, ids)).kept for view in (plain, roomy)]
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_ratios_are_balanced_below_one() -> None:
    assert balanced([1, 1, 1, 1], 0.8) == pytest.approx([0.8] * 4)
    assert balanced([0.1, 0.2, 0.3], 0.4) == pytest.approx([0.2, 0.4, 0.6])
    # Scaled to 2.4: 0.4, 0.4, 1.6; what is above one goes to the others.
    assert balanced([0.25, 0.25, 1.0], 0.8) == pytest.approx([0.7, 0.7, 1.0])
    assert balanced([0.01, 0.02, 0.5, 0.6], 0.9) == pytest.approx([0.6, 1.0, 1.0, 1.0])
    for kept in (0.1, 0.5, 0.9, 1.0):
        found = balanced([0.25, 0.3, 1.0, 0.9, 0.26], kept)
        assert max(found) <= 1
        assert sum(found) / 5 == pytest.approx(kept)


def test_uniform_and_vector_are_known_early(plugins: Plugins) -> None:
    assert Uniform().known(3, 0.5) == [0.5] * 3
    assert Uniform().known(3, None) is None
    built = plugins.registry.build("allocation", [0.4, 0.6])
    assert built == Vector((0.4, 0.6))
    assert built.known(2, 0.5) == (0.4, 0.6)
    with pytest.raises(RecipeError, match=r"ratios: found 2 ratios; the model has 3 layers"):
        built.known(3, None)
    with pytest.raises(RecipeError, match=r"keep 0\.5000 on average, the target keeps 0\.8000; use block_ratio: 0\.5"):
        built.known(2, 0.8)
    with pytest.raises(RecipeError, match=r"found 2\.2; input should be less than or equal to 2"):
        plugins.registry.build("allocation", [0.4, 2.2])


def test_a_ratio_above_one_is_clipped_and_told(view_of: Callable[..., ModelView], ids: Tensor) -> None:
    vector = Vector((1.053, 0.75, 0.85, 0.78, 0.8, 0.6))
    view = view_of("llama")
    view.numbers = [3, 4, 5, 6, 7, 8]
    shares = vector.allocate(context(view, ids, 0.8))
    assert shares.kept == (1.0, 0.75, 0.85, 0.78, 0.8, 0.6)
    assert shares.facts == {"clipped_to_one": {"3": 1.053}}
    assert checked(shares, 6, 0.8, "vector") == list(shares.kept)
    assert Vector((0.8,) * 6).allocate(context(view, ids, 0.8)).facts == {}


def test_clipping_that_misses_the_target_is_refused() -> None:
    # Of 1.3 and 0.3 the mean is 0.8, of what they count 0.65.
    with pytest.raises(
        RecipeError, match=r"keep 0\.6500 on average, those above 1 counted as 1, the target keeps 0\.8"
    ):
        Vector((1.3, 0.3)).known(2, 0.8)


def test_the_ratios_of_any_allocation_are_checked() -> None:
    assert checked(Shares([0.4, 0.6]), 2, 0.5, "mine") == [0.4, 0.6]
    for wrong in ([0.5], [0.0, 1.0], [0.4, 1.1], [float("nan"), 0.5]):
        with pytest.raises(PlanError, match=r"allocation 'mine' returned .*; allowed: 2 ratios above 0, at most 1"):
            checked(Shares(wrong), 2, 0.5, "mine")
    with pytest.raises(PlanError, match=r"'mine' keeps 0\.5000 on average; the target keeps 0\.6000"):
        checked(Shares([0.4, 0.6]), 2, 0.6, "mine")


def test_bounds_of_the_heuristic_are_in_order(plugins: Plugins) -> None:
    with pytest.raises(RecipeError, match=r"low: 0\.9 is above high: 0\.5"):
        plugins.registry.build("allocation", {"name": "dip-heuristic", "low": 0.9, "high": 0.5})
