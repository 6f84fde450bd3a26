"""What benchmarks/peers.py calls of each peer, by its documented public API and with its defaults where it has some."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForCausalLM


class Side:
    """A job with its texts, and the clock that runs while a peer works."""

    def __init__(self, job: Mapping[str, Any], texts: Mapping[str, Tensor], tokenizer: Any) -> None:
        self.job = job
        self.texts = texts
        self.tokenizer = tokenizer
        self.seconds = 0.0
        self.steps = 0
        self.gone: list[int] = []
        self.remarks: list[str] = []

    def model(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.job["model"], dtype=torch.float32).eval()

    def loader(self, rows: Tensor, batch: int) -> Any:
        """Batches of rows of equal length, as tokenizers give them."""
        rows = rows.long()
        data = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in rows]
        return DataLoader(data, batch_size=batch)  # type: ignore[arg-type]

    @contextmanager
    def working(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - begin


def channel_share(side: Side, hidden: bool) -> float:
    """The share of the MLP channels, and of the hidden ones if asked, that takes the asked share of all parameters."""
    model = side.model()
    every = sum(weight.numel() for weight in model.parameters())
    mlp = sum(weight.numel() for name, weight in model.named_parameters() if ".mlp." in name)
    if not hidden:
        return float(side.job["ratio"]) * every / mlp
    # All tensors have the hidden size once, and those of the MLP its channels as well: a square equation.
    stays = 1 - float(side.job["ratio"])
    other = every - mlp
    return 1 - (math.sqrt(other * other + 4 * mlp * stays * every) - other) / (2 * mlp)


def optipfair_last(side: Side) -> Any:
    import optipfair

    model = side.model()
    with side.working():
        return optipfair.prune_model(
            model, pruning_type="DEPTH", num_layers_to_remove=side.job["layers"], show_progress=False
        )


def optipfair_importance(side: Side) -> Any:
    """The least important layers go; the recipe of its README."""
    import optipfair

    model = side.model()
    loader = side.loader(side.texts["calibration"], 8)
    with side.working():
        scores = optipfair.analyze_layer_importance(model, loader, show_progress=False)
        weakest = sorted(sorted(scores, key=lambda layer: scores[layer])[: side.job["layers"]])
        model = optipfair.prune_model_depth(model, layer_indices=weakest, show_progress=False)
    side.gone = weakest
    return model


def optipfair_width(side: Side, data: bool = False) -> Any:
    import optipfair

    model = side.model()
    percentage = 100 * channel_share(side, hidden=False)
    given = {"dataloader": side.loader(side.texts["calibration"], 8)} if data else {}
    with side.working():
        model = optipfair.prune_model(
            model, pruning_type="MLP_GLU", pruning_percentage=percentage, show_progress=False, **given
        )
    side.remarks.append(f"{percentage:.1f} % of the MLP channels of every layer, {model.config.intermediate_size} stay")
    return model


def optipfair_width_data(side: Side) -> Any:
    return optipfair_width(side, data=True)


def optipfair_importance_distilled(side: Side) -> Any:
    return _distilled(side, optipfair_importance(side))


def optipfair_width_data_distilled(side: Side) -> Any:
    return _distilled(side, optipfair_width_data(side))


def _distilled(side: Side, student: Any) -> Any:
    """`distill_model` with all of its defaults, for as many batches as the seconds hold at the pace of the first ones.

    A batch of 2 pieces and its 4 accumulation steps are a step of 8 pieces.
    """
    import optipfair

    teacher, rows, pieces = side.model(), side.texts["training"], 2
    first = side.loader(rows[: 8 * pieces], pieces)
    begin = time.perf_counter()
    optipfair.distill_model(copy.deepcopy(student), teacher, first, epochs=1, show_progress=False)
    pace = (time.perf_counter() - begin) / len(first)
    batches = max(4, int(side.job["seconds"] / pace))
    epochs = max(3, math.ceil(batches * pieces / len(rows)))
    an_epoch = max(1, batches // epochs)
    with side.working():
        student, stats = optipfair.distill_model(
            student,
            teacher,
            side.loader(rows[: an_epoch * pieces], pieces),
            epochs=epochs,
            show_progress=False,
            return_stats=True,
        )
    side.steps = epochs * math.ceil(an_epoch / stats["accumulation_steps"])
    side.remarks.append(f"{epochs} epochs of {an_epoch * pieces} pieces")
    return student


def short_transformers(side: Side) -> Any:
    """The run of layers that turns the last token least goes; the first call of its README."""
    from short_transformers import ShortTransformer

    texts = [{"text": side.tokenizer.decode(row)} for row in side.texts["calibration"]]
    model = ShortTransformer.from_model(side.model())
    with side.working():
        return model.remove_layers(
            tokenizer=side.tokenizer, block_size=side.job["layers"], dataset=texts, limit=len(texts)
        )


def torch_kirigami(side: Side) -> Any:
    """Its quick start, with the model's parameter budget."""
    from torch_kirigami import DependencyGraph
    from torch_kirigami.pruning import Greedy, GroupMagnitude, ParameterBudget, Pruner

    model = side.model()
    every = sum(weight.numel() for weight in model.parameters())
    with side.working():
        graph = DependencyGraph.build(model, args=(side.texts["calibration"][:1, :8].long(),))
        pruner = Pruner(model, graph=graph)
        budget = ParameterBudget(max_params=int(every * (1 - side.job["ratio"])))
        model, _ = pruner.prune(pruner.discover_candidates(), budget=budget, strategy=Greedy(GroupMagnitude(p=2)))
    return model


def mergekit(side: Side) -> Any:
    """A passthrough merge of the layers that stay; it makes no choice of its own."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    gone, layers = set(side.job["gone"]), AutoConfig.from_pretrained(side.job["model"]).num_hidden_layers
    stay = [layer for layer in range(layers) if layer not in gone]
    source = side.job["model"]
    slices = [{"sources": [{"model": source, "layer_range": [layer, layer + 1]}]} for layer in stay]
    recipe = {"slices": slices, "merge_method": "passthrough", "dtype": "float32"}
    with side.working():
        run_merge(MergeConfiguration.model_validate(recipe), side.job["output"], options=MergeOptions())
    side.gone = sorted(gone)
    return AutoModelForCausalLM.from_pretrained(side.job["output"], dtype=torch.float32)
