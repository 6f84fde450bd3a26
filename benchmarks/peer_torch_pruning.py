"""torch-pruning on a language model, for benchmarks/peers.py: as its example has it, and without heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peer_calls import Side, channel_share


def torch_pruning_example(side: Side) -> Any:
    """What its example of language models does: the same share of hidden channels, MLP channels and heads, by norms."""
    ratio = channel_share(side, hidden=True)
    number = {}
    with side.working():
        model = side.model()
        for name, attention in model.named_modules():
            if name.endswith("self_attn"):
                number[attention.q_proj] = model.config.num_attention_heads
                number[attention.k_proj] = number[attention.v_proj] = model.config.num_key_value_heads
        heads = {"num_heads": number, "prune_num_heads": True, "prune_head_dims": False, "head_pruning_ratio": ratio}
        return _torch_pruned(side, model, ratio, heads)


def torch_pruning_hidden(side: Side) -> Any:
    """The same, but no heads go."""
    return _without_heads(side, hidden=True)


def torch_pruning_mlp(side: Side) -> Any:
    return _without_heads(side, hidden=False)


def torch_pruning_mlp_taylor(side: Side) -> Any:
    return _without_heads(side, hidden=False, taylor=True)


def _without_heads(side: Side, hidden: bool, taylor: bool = False) -> Any:
    ratio = channel_share(side, hidden)
    model = side.model()
    kept = [layer for name, layer in model.named_modules() if name.endswith(("q_proj", "k_proj", "v_proj"))]
    others = {"ignored_layers": [model.lm_head, *kept]} if hidden else {}
    if not hidden:
        others["pruning_ratio_dict"] = {layer.mlp.gate_proj: ratio for layer in model.model.layers}
    with side.working():
        return _torch_pruned(side, model, ratio if hidden else 0.0, others, taylor)


def _torch_pruned(side: Side, model: Any, ratio: float, others: Mapping[str, Any], taylor: bool = False) -> Any:
    """Cut a model in place, then set what its example sets by hand.

    Args:
        side: The text that is traced, and that gives gradients.
        model: The model.
        ratio: The share of all channels that may go.
        others: Further parameters of the pruner.
        taylor: Whether gradients on the calibration text score the channels, and not norms of the weights.

    Returns:
        The model.
    """
    import torch_pruning as tp

    model.config.use_cache = False  # with it, tracing does not end
    if taylor:
        for rows in side.texts["calibration"].long().split(4):
            (model(rows, labels=rows).loss * len(rows)).backward()
    importance = tp.importance.GroupTaylorImportance() if taylor else tp.importance.GroupMagnitudeImportance(p=2)
    given = {"ignored_layers": [model.lm_head], "pruning_ratio": ratio, "round_to": 4, **others}
    tokens = side.texts["calibration"][:1, :8].long()
    tp.pruner.BasePruner(model, example_inputs=tokens, importance=importance, global_pruning=False, **given).step()
    model.zero_grad(set_to_none=True)
    config, first = model.config, model.model.layers[0]
    config.use_cache = True
    config.hidden_size = model.lm_head.in_features
    config.intermediate_size = first.mlp.gate_proj.out_features
    config.num_attention_heads = first.self_attn.q_proj.out_features // config.head_dim
    model.tie_weights()  # it leaves two equal tables where there was one
    side.remarks.append(f"hidden size {config.hidden_size}, {config.intermediate_size} MLP channels")
    return model
