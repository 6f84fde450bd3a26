"""The order of an expert's channels that brings it next to another: what is computed stays the same."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from swm.model.expert_axes import ExpertChannels, channel_matrix


def matched_order(tensors: Mapping[str, Tensor], channels: ExpertChannels, expert: int, other: int) -> Tensor:
    """Which channel of another expert stands for each channel of an expert.

    Of all orders, it is the one with the largest sum of products of the weights of channels that stand for each other:
    `sum_c <w_c, v_order(c)>`, with all that a channel multiplies with in one vector (weight matching: Ainsworth et al.,
    arXiv 2209.04836, section 3.2, exact for one layer).

    Args:
        tensors: The weights of the experts, by name.
        channels: Where the channels lie in them.
        expert: The expert that stays as it is.
        other: The one whose channels are matched.
    """
    from scipy.optimize import linear_sum_assignment

    one, two = (
        torch.cat([channel_matrix(tensors[name][i].double(), dim, where) for name, dim, where in channels.places()], 1)
        for i in (expert, other)
    )
    _, order = linear_sum_assignment((one @ two.T).cpu().numpy(), maximize=True)
    return torch.from_numpy(order)


def in_order(value: Tensor, name: str, channels: ExpertChannels, order: Tensor) -> Tensor:
    """One expert's share of a weight with its channels in another order; as it is where it has none.

    Args:
        value: The share, without the axis of the experts.
        name: The name of the weight.
        channels: Where the channels lie.
        order: Which channel goes to each place.
    """
    turns = torch.stack([2 * order, 2 * order + 1], dim=1).flatten()
    both = turns if channels.interleaved else torch.cat([order, order + channels.count])
    for known, dim, index in ((*channels.reads, order), *((name, dim, both) for name, dim in channels.writes.items())):
        if known == name:
            return value.index_select(dim - 1, index.to(value.device))
    return value
