"""Latency and throughput of models, measured in turns so that their ratio holds on a machine whose speed drifts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, median, quantiles
from typing import Any

import torch
from torch import Tensor

from swm.checkpoint.reload import generate
from swm.interfaces.progress import Progress, Silent
from swm.measure.speed_protocol import GREEDY, SpeedProtocol
from swm.model.kv_cache import kv_cache_of
from swm.model.lengths import fitting_length
from swm.model.quiet import quiet_transformers

Clock = Callable[[], float]


def measure_speed(
    models: Mapping[str, Any],
    vocabulary: int,
    protocol: SpeedProtocol,
    progress: Progress | None = None,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    tokenizer: Any = None,
) -> dict[str, Any]:
    """Seconds and tokens a second of every model, and of two models how many times as fast the second one is.

    Each run measures all models one after the other, every second run in reverse order; a ratio is the median over
    runs of the quotient of one run's two times, with its quartiles.

    Args:
        models: The models by name, all on their devices.
        vocabulary: Random prompts consist of token ids below this number.
        protocol: Batch sizes, prompt, number of tokens, number of runs.
        progress: Shows how many runs are done.
        seed: The seed of random prompts.
        clock: Gives the time in seconds.
        tokenizer: Needed where the protocol has a prompt of its own.

    Returns:
        `prefill` and `decode` with a row for each batch size, the memory of the models, the bytes of their KV caches
        for a token, warnings, and the protocol.
    """
    generator = torch.Generator().manual_seed(seed)
    given = protocol.prompt_ids(tokenizer)
    length, how = len(given or ()) or protocol.prompt_tokens, protocol.sampling()
    results: dict[str, Any] = {"protocol": protocol.record(given)}
    tasks: list[tuple[str, Callable[[Any, Tensor], None], int]] = [
        ("prefill", _prefill, length),
        ("decode", lambda model, ids: _decode(model, ids, protocol.new_tokens, how), protocol.new_tokens),
    ]
    with (progress or Silent()).task("speed", len(tasks) * len(protocol.batch_sizes) * protocol.runs) as task:
        for name, work, tokens in tasks:
            results[name] = []
            for batch in protocol.batch_sizes:
                ids = torch.randint(0, vocabulary, (batch, length), generator=generator)
                ids = ids if given is None else torch.tensor([given] * batch)
                times = _times(models, work, ids, protocol, clock, lambda note: task.advance(note=note))
                results[name].append({"batch": batch, **_rows(times, batch * tokens, protocol.preset is not None)})
    results["memory"] = {name: _memory(model) for name, model in models.items()}
    results["kv_cache_bytes_per_token"] = {name: kv_cache_bytes(model) for name, model in models.items()}
    results["warnings"] = _warnings(results, list(models))
    return results


def speed_of_model(results: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The part of `measure_speed`'s results that is about one model, by measurement and batch size."""
    own: dict[str, Any] = {
        kind: {f"batch {row['batch']}": dict(row[name]) for row in results[kind]} for kind in ("prefill", "decode")
    }
    return {**own, **results["memory"][name], "kv_cache_bytes_per_token": results["kv_cache_bytes_per_token"][name]}


def _times(
    models: Mapping[str, Any],
    work: Callable[[Any, Tensor], None],
    ids: Tensor,
    protocol: SpeedProtocol,
    clock: Clock,
    report: Callable[[str], None],
) -> dict[str, list[float]]:
    """Seconds of every run that counts, by model.

    Args:
        models: The models by name.
        work: What is timed: it takes a model and token ids.
        ids: Token ids `[batch, seq]`.
        protocol: The number of runs, and how many of them are for warm-up.
        clock: Gives the time in seconds.
        report: Is called with a note after each run.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    for run in range(protocol.runs):
        order = list(models)[:: 1 if run % 2 == 0 else -1]
        for name in order:
            model = models[name]
            given = ids.to(model.device)
            _wait(model)
            start = clock()
            work(model, given)
            _wait(model)
            if run >= protocol.warm_up:
                times[name].append(clock() - start)
        report(f"batch {len(ids)}")
    return times


def _rows(times: Mapping[str, list[float]], tokens: int, with_mean: bool) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, values in times.items():
        low, middle, high = quantiles(values, n=4, method="inclusive")
        rows[name] = {"median_s": middle, "quartiles_s": [low, high], "tokens_per_s": tokens / middle}
        if with_mean:
            rows[name]["mean_s"] = mean(values)
    if len(times) == 2:
        first, second = times.values()
        ratios = [a / b for a, b in zip(first, second, strict=True)]
        low, _, high = quantiles(ratios, n=4, method="inclusive")
        rows["ratio"] = {"median": median(ratios), "interval": [low, high]}
    return rows


@torch.no_grad()
def _prefill(model: Any, ids: Tensor) -> None:
    model(input_ids=ids, use_cache=True, logits_to_keep=1)


@torch.no_grad()
def _decode(model: Any, ids: Tensor, tokens: int, how: Mapping[str, Any] = GREEDY) -> None:
    """Generate text.

    Args:
        model: A causal language model.
        ids: Token ids `[batch, seq]`.
        tokens: How many tokens are generated after them.
        how: How each token is chosen, in the words of `generate`.
    """
    # What is drawn here must not change what is drawn elsewhere.
    with quiet_transformers(), torch.random.fork_rng(enabled=bool(how["do_sample"])):
        generate(model, ids, min_new_tokens=tokens, max_new_tokens=tokens, **how)


def _wait(model: Any) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _memory(model: Any) -> dict[str, int]:
    """Bytes of the parameters, and on a GPU the most that one prefill and one step of decoding took with them."""
    memory = {"parameter_bytes": sum(p.numel() * p.element_size() for p in model.parameters())}
    if model.device.type == "cuda":
        # The models that are compared stand on one device; each one's peak is its own.
        others = torch.cuda.memory_allocated(model.device) - memory["parameter_bytes"]
        torch.cuda.reset_peak_memory_stats(model.device)
        _decode(model, torch.ones((1, 128), dtype=torch.long, device=model.device), 2)
        memory["peak_bytes"] = torch.cuda.max_memory_allocated(model.device) - others
    return memory


@torch.no_grad()
def kv_cache_bytes(model: Any, tokens: int = 16) -> float:
    """Bytes of keys and values that one more token of one sequence takes, measured on a real cache.

    `tokens` is short, so that no sliding window of attention caps it.
    """
    ids = torch.zeros((1, fitting_length(model.config, tokens)), dtype=torch.long, device=model.device)
    [cache] = kv_cache_of(model(input_ids=ids, use_cache=True)).values()
    total = 0
    for layer in cache.layers:
        for value in (layer.keys, layer.values):
            total += value.numel() * value.element_size()
    return total / ids.shape[1]


def _warnings(results: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """A line for every measurement in which the second model is slower beyond its quartiles."""
    lines = []
    for kind in ("prefill", "decode"):
        for row in results[kind]:
            if "ratio" in row and row["ratio"]["interval"][1] < 1:
                times, what = 1 / row["ratio"]["median"], f"{kind} at batch {row['batch']}"
                lines.append(f"{names[1]} is slower than {names[0]}: {what} takes {times:.2f} times as long")
    return lines
