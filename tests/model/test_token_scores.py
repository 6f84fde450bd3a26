"""Next-token scores in pieces are those of the whole, with their gradients, and take no more memory than one piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM

from swm.depth.objective import Objective, Reference
from swm.interfaces.progress import Silent
from swm.measure.perplexity import TokenWindows, perplexity
from swm.measure.tasks.loglikelihood import LogLikelihood
from swm.model import token_scores
from swm.model.recording import Recording
from swm.model.token_scores import TokenScores, all_places, score_pieces
from swm.model.view import ModelView
from swm.recovery.distill import Distill
from swm.recovery.distillation_loss import DistillationLoss
from swm.similarity.kl import KL
from swm.training.next_token import next_token_loss
from swm.training.training_set import TokenBatch
from swm.width.gradients import frozen, loss_gradient
from tests.zoo import CAUSAL, SPECIAL, zoo_model
from tests.zoo_multimodal import MULTIMODAL, multimodal_model

IDS = torch.randint(3, 90, (3, 12), generator=torch.Generator().manual_seed(3))
LABELS = IDS.clone()
LABELS[0, :5] = -100
LABELS[2, 8:] = -100
BATCH = TokenBatch(IDS, torch.ones_like(IDS), LABELS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes pieces of that many tokens, for a vocabulary of 96."""
    return lambda tokens: monkeypatch.setattr(token_scores, "SCORE_BYTES", 4 * 128 * tokens)


def test_pieces_cover_all_tokens_once(small: Callable[[int], None]) -> None:
    small(4)
    assert score_pieces(9, 128) == [slice(0, 4), slice(4, 8), slice(8, 9)]
    assert score_pieces(2, 10**9) == [slice(0, 1), slice(1, 2)], "never less than a token"
    assert score_pieces(0, 128) == [slice(0, 0)]


# The class of llama4 for images and text cannot be run.
@pytest.mark.parametrize("name", [*CAUSAL, *(name for name in MULTIMODAL if name != "llama4")])
def test_scores_in_pieces_are_those_of_the_model(name: str, small: Callable[[int], None]) -> None:
    model = zoo_model(name) if name in CAUSAL else multimodal_model(name)
    with torch.no_grad():
        whole = model(input_ids=IDS, use_cache=False).logits[:, :-1].flatten(0, 1)
        small(7)
        scores = TokenScores(model, IDS, all_places(3, 11), use_cache=False)
        assert scores.output.logits.shape[1] == 0, "all scores were made at once"
        torch.testing.assert_close(torch.cat([given for _, given in scores]), whole, rtol=0, atol=1e-5)
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in model.modules())


def head_weights(model: Any) -> list[Tensor]:
    return list(model.get_output_embeddings().parameters())


@pytest.mark.parametrize("trained", ["all", "head", "no head", "embedding"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "phi"])
def test_the_loss_in_pieces_has_the_gradients_of_the_whole(
    name: str, trained: str, small: Callable[[int], None]
) -> None:
    model = zoo_model(name)
    head = {id(p) for p in head_weights(model)}
    embedding = {id(p) for p in model.get_input_embeddings().parameters()}
    for p in model.parameters():
        wanted = {"all": True, "head": id(p) in head, "no head": id(p) not in head, "embedding": id(p) in embedding}
        p.requires_grad_(wanted[trained])
    results = []
    for tokens in (10**6, 4):
        small(tokens)
        loss = next_token_loss(model, BATCH)
        model.zero_grad()
        (loss * 0.25).backward()
        gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
        results.append((loss.detach(), gradients))
    (whole, expected), (pieces, gradients) = results
    torch.testing.assert_close(pieces, whole, rtol=1e-6, atol=0)
    assert gradients.keys() == expected.keys()
    assert expected
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-5, atol=1e-5, msg=key)
    with torch.no_grad():
        assert next_token_loss(model, BATCH) == pytest.approx(float(whole), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gradients_in_pieces_are_as_near_to_those_of_float32(
    dtype: torch.dtype, small: Callable[[int], None]
) -> None:
    def gradients(dtype: torch.dtype) -> list[Tensor]:
        model = zoo_model("llama").to(dtype)
        (next_token_loss(model, BATCH) * 2.0**10).backward()
        return [p.grad.float() for p in model.parameters() if p.grad is not None]

    exact, whole = gradients(torch.float32), gradients(dtype)
    small(3)
    for gradient, other, wanted in zip(gradients(dtype), whole, exact, strict=True):
        assert (gradient - wanted).norm() <= 1.5 * (other - wanted).norm() + 1e-6 * wanted.norm()


def test_a_second_backward_pass_gives_the_same_gradient(small: Callable[[int], None]) -> None:
    model = zoo_model("llama")
    small(4)
    loss = next_token_loss(model, BATCH)
    weights = head_weights(model)
    first, second = (torch.autograd.grad(loss, weights, retain_graph=True) for _ in range(2))
    torch.testing.assert_close(second, first)


@pytest.mark.parametrize("settings", [{}, {"temperature": 2.0, "next_token": 0.25, "hidden": 0.5}])
def test_distillation_in_pieces_has_the_gradients_of_the_whole(
    settings: dict[str, float], view_of: Callable[[Any], ModelView], small: Callable[[int], None]
) -> None:
    student, teacher = view_of(zoo_model("gemma2")), view_of(zoo_model("gemma2"))
    with torch.no_grad():
        for p in student.model.parameters():
            p.mul_(1.1)
    results = []
    for tokens in (10**6, 4):
        small(tokens)
        student.model.zero_grad()
        loss = DistillationLoss(Distill(**settings), student, teacher)(BATCH)
        loss.backward()
        results.append([loss.detach(), *(p.grad.clone() for p in student.model.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert all(p.grad is None for p in teacher.model.parameters())


def test_measures_in_pieces_are_those_of_the_whole(
    view_of: Callable[[Any], ModelView], small: Callable[[int], None]
) -> None:
    model = zoo_model("gemma2")
    view = view_of(model)
    recording = view.record(IDS)
    other = recording.states[-2]
    pairs = [([5, 6, 7], [8, 9]), ([5, 6, 7], [4]), ([9] * 5, [3] * 7)]
    results = []
    for tokens in (10**6, 4):
        small(tokens)
        with frozen(model):
            gradient = loss_gradient(view, recording)
        objective = Objective(view, KL())
        results.append(
            [
                torch.tensor(perplexity(model, TokenWindows([*IDS], {}))["window_nats"]),
                torch.tensor(objective.next_token_loss(other, IDS)),
                torch.tensor(Reference(objective, recording.states[-1]).similarity(other)),
                torch.tensor([total for total, _ in _scored(model, pairs)]),
                gradient,
            ]
        )
    for one, another in zip(*results, strict=True):
        torch.testing.assert_close(another, one, rtol=1e-5, atol=1e-5)


class Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor that has not the shape of the head's weight."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.shapes, self.bytes = (weight.shape, weight.T.shape), 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = operation(*args, **(kwargs or {}))
        for value in tree_leaves(output):
            if isinstance(value, Tensor) and value.shape not in self.shapes:
                self.bytes = max(self.bytes, value.numel() * value.element_size())
        return output


def _scored(model: Any, pairs: list[Any]) -> list[tuple[float, bool]]:
    with Silent().task("") as task:
        return LogLikelihood(model, 64).score(pairs, task)


@pytest.fixture(scope="module")
def wide() -> Any:
    """A model of 262,144 tokens; the scores of one of them take a MiB."""
    config = AutoConfig.for_model(
        "gemma3_text",
        vocab_size=2**18,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        layer_types=["full_attention"] * 2,
        **SPECIAL,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


WORK: dict[str, Callable[[ModelView, Recording], Any]] = {
    "perplexity": lambda view, run: perplexity(view.model, TokenWindows([*IDS], {})),
    "tasks": lambda view, run: _scored(view.model, [([5, 6], [*row]) for row in IDS.tolist()]),
    "loss of a search": lambda view, run: Objective(view, KL()).next_token_loss(run.states[-1], IDS),
    "kl": lambda view, run: Reference(Objective(view, KL()), run.states[-1]).similarity(run.states[-2]),
    "gradients": lambda view, run: loss_gradient(view, run),
    "next-token training": lambda view, run: next_token_loss(view.model, BATCH).backward(),
    "distillation": lambda view, run: DistillationLoss(Distill(next_token=1.0), view, view)(BATCH).backward(),
}


@pytest.mark.parametrize("trains", [True, False], ids=["trained", "frozen"])
@pytest.mark.parametrize("work", WORK)
def test_no_tensor_is_larger_than_the_scores_of_one_piece(
    work: str, trains: bool, wide: Any, view_of: Callable[[Any], ModelView], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_scores, "SCORE_BYTES", 5 * 2**20)
    view = view_of(wide)
    head = {id(p) for p in head_weights(wide)}
    for p in wide.parameters():
        p.requires_grad_(trains or id(p) not in head)
    run = view.record(IDS)
    with Largest(wide.get_output_embeddings().weight) as largest:
        WORK[work](view, run)
    wide.zero_grad()
    assert 2**20 < largest.bytes <= 5 * 2**20


def test_pieces_of_a_small_vocabulary_are_limited_too() -> None:
    assert score_pieces(10_000, 2)[0] == slice(0, 4096)
