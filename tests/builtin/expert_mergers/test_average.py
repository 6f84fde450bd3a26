"""Averages of experts, against shares by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from swm.builtin.expert_mergers.average import AverageExperts
from swm.builtin.steps.merge_experts import MergeExpertsStep
from swm.errors import PlanError
from swm.interfaces.expert_merger import ExpertChoice, ExpertMerger
from swm.interfaces.width import RoutingStatistics
from swm.testing import checks_for
from swm.width.expert_merging import merged_experts

# Expert 1 is like 0, expert 3 is like 2; 4 tokens take two experts each.
AGREEMENT = torch.tensor([[1.0, 0.9, -0.2, 0.1], [0.9, 1.0, 0.0, 0.3], [-0.2, 0.0, 1.0, 0.8], [0.1, 0.3, 0.8, 1.0]])
ROUTED = torch.tensor([3.0, 1.0, 4.0, 0.0], dtype=torch.float64)
OUTPUT = torch.tensor([2.0, 6.0, 5.0, 0.0], dtype=torch.float64)


def choice(kept: list[int], routed: Tensor = ROUTED, output: Tensor = OUTPUT) -> ExpertChoice:
    return ExpertChoice(3, 4, kept, RoutingStatistics(4, routed, output, AGREEMENT.double()))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("output", [[0.25, 0.75, 0, 0], [0, 0, 1, 0]]),
        ("frequency", [[0.75, 0.25, 0, 0], [0, 0, 1, 0]]),
        ("equal", [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]),
    ],
)
def test_each_goes_to_the_one_most_alike(weights: str, expected: list[list[float]]) -> None:
    shares = AverageExperts(weights).shares(choice([0, 2]))  # type: ignore[arg-type]
    torch.testing.assert_close(shares, torch.tensor(expected, dtype=torch.float64))


def test_without_tokens_an_expert_stays_as_it_is() -> None:
    nothing = torch.zeros(4, dtype=torch.float64)
    shares = AverageExperts().shares(choice([1, 3], nothing, nothing))
    assert shares.tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]


def test_only_experts_that_change_are_in_a_plan() -> None:
    assert merged_experts(AverageExperts(), choice([0, 2])) == {0: {0: 0.25, 1: 0.75}}


def test_a_router_that_is_not_known_is_refused() -> None:
    blind = ExpertChoice(3, 4, [0, 2], RoutingStatistics(4, ROUTED, OUTPUT))
    with pytest.raises(PlanError, match="which experts are alike"):
        AverageExperts().shares(blind)


@dataclass(frozen=True)
class Wrong(ExpertMerger):
    name: ClassVar[str] = "wrong"

    scale: float = 2.0

    def shares(self, choice: ExpertChoice) -> Tensor:
        return self.scale * torch.eye(choice.count)[list(choice.kept)]


TestTheKit = checks_for(
    AverageExperts, {}, {"weights": "equal", "align": "weights"}, families=("mixtral",), fresh_process=False
)


def test_the_kit_finds_shares_that_add_up_to_something_else() -> None:
    kit = checks_for(Wrong)()
    with pytest.raises(pytest.fail.Exception, match="shares must be 0 or more, and those of an expert that stays"):
        kit.test_its_shares_add_up_to_one({})  # type: ignore[attr-defined]


def test_the_kit_tries_models_with_experts() -> None:
    assert "mixtral" in checks_for(AverageExperts).families


def test_shares_that_add_up_to_something_else_are_refused() -> None:
    with pytest.raises(PlanError, match="expert merger 'wrong', layer 3: shares must be 0 or more"):
        merged_experts(Wrong(), choice([0, 2]))


def test_a_step_that_makes_no_sense_is_refused() -> None:
    for members, shares in (("0-2", (0.5, 0.5)), ("0,2", (0.9, 0.5))):
        with pytest.raises(ValueError, match=r"members|shares"):
            MergeExpertsStep(0, 0, members, shares)
    assert MergeExpertsStep(3, 2, "2,5", (0.5, 0.5)).describe() == "layer 3: expert 2 becomes the mean of 2,5"
