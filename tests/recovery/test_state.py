"""The state of a training on disk: whole or not there, and the same bits when it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from swm.training import state as training_state
from swm.training.state import DamagedStateError, TrainingState, newest_state, read_state, write_state


@pytest.fixture
def model() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3).to(torch.bfloat16))
    model[1].bias.requires_grad_(False)
    return model


@pytest.fixture
def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Two weights of two precisions; one is laid out by columns."""
    with torch.no_grad():
        model[0].weight.set_(torch.randn(5, 4).t())
    return {"first": model[0].weight, "second": model[1].weight}


@pytest.fixture
def optimizer(trained: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(trained.values(), lr=1e-2)


def learn(trained: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    for p in trained.values():
        p.grad = torch.randn_like(p)
    optimizer.step()


def bits(trained: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> list[Tensor]:
    found: list[Tensor] = []
    for p in trained.values():
        found += [p.detach().clone(), *(value.clone() for _, value in sorted(optimizer.state[p].items()))]
    return [*found, torch.get_rng_state()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one, other, strict=True))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_weights_moments_random_numbers_and_losses_come_back_bit_for_bit(trained, optimizer, tmp_path: Path) -> None:
    learn(trained, optimizer)
    learn(trained, optimizer)
    losses, held_out = [[1, 0.1], [2, 1 / 3]], [[2, 1e-17]]
    best = {"first": torch.randn(4, 5), "second": torch.randn(3, 4).to(torch.bfloat16)}
    write_state(tmp_path, TrainingState(2, 0.1 + 0.2, losses, held_out, best), trained, optimizer)
    before = bits(trained, optimizer)
    learn(trained, optimizer)
    follows = bits(trained, optimizer)

    fresh = torch.optim.AdamW(trained.values(), lr=1e-2)
    found = read_state(tmp_path / "step-2", trained, fresh)
    assert equal(bits(trained, fresh), before)
    assert (found.step, found.elapsed, found.losses, found.held_out_losses) == (2, 0.1 + 0.2, losses, held_out)
    assert equal([found.best["first"], found.best["second"]], [best["first"], best["second"]])
    # The next step with the next random numbers is the same too.
    learn(trained, fresh)
    assert equal(bits(trained, fresh), follows)


def test_before_the_first_step_there_are_no_moments(trained, optimizer, tmp_path: Path) -> None:
    write_state(tmp_path, TrainingState(), trained, optimizer)
    before = bits(trained, optimizer)
    assert set(load_file(tmp_path / "step-0/state.safetensors")) == {"weight/first", "weight/second", "rng"}
    fresh = torch.optim.AdamW(trained.values(), lr=1e-2)
    assert read_state(tmp_path / "step-0", trained, fresh).step == 0
    assert equal(bits(trained, fresh), before)


def test_without_an_optimizer_only_weights_are_put_in_place(trained, optimizer, tmp_path: Path) -> None:
    write_state(tmp_path, TrainingState(), trained, optimizer)
    weights = [p.detach().clone() for p in trained.values()]
    learn(trained, optimizer)
    _, *moments = bits({"first": trained["first"]}, optimizer)
    read_state(tmp_path / "step-0", trained, None)
    assert equal([p.detach() for p in trained.values()], weights)
    assert equal(bits({"first": trained["first"]}, optimizer)[1:], moments)


def test_only_the_first_and_the_newest_state_stay(trained, optimizer, tmp_path: Path) -> None:
    assert newest_state(tmp_path / "nowhere") is None
    for step in (0, 1, 9, 10, 100):
        write_state(tmp_path, TrainingState(step), trained, optimizer)
        assert newest_state(tmp_path) == tmp_path / f"step-{step}"
        assert names(tmp_path) == sorted({"step-0", f"step-{step}"})


@pytest.mark.parametrize("culprit", ["save_file", "json.dumps", "os.replace"])
def test_a_state_that_was_being_written_is_never_seen(
    trained, optimizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, culprit: str
) -> None:
    def interrupted(*args: object) -> None:
        if culprit == "save_file":
            Path(str(args[1])).write_bytes(b"half")
        raise KeyboardInterrupt

    write_state(tmp_path, TrainingState(0), trained, optimizer)
    write_state(tmp_path, TrainingState(3), trained, optimizer)
    with monkeypatch.context() as patch:
        patch.setattr(f"{training_state.__name__}.{culprit}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_state(tmp_path, TrainingState(4), trained, optimizer)
    assert names(tmp_path) == [".step-4", "step-0", "step-3"]
    assert newest_state(tmp_path) == tmp_path / "step-3"
    assert read_state(tmp_path / "step-3", trained, optimizer).step == 3
    write_state(tmp_path, TrainingState(4), trained, optimizer)
    assert names(tmp_path) == ["step-0", "step-4"]


def test_writing_a_step_again_replaces_it(trained, optimizer, tmp_path: Path) -> None:
    write_state(tmp_path, TrainingState(5, losses=[[5, 1.0]]), trained, optimizer)
    write_state(tmp_path, TrainingState(5, losses=[[5, 2.0]]), trained, optimizer)
    assert read_state(tmp_path / "step-5", trained, None).losses == [[5, 2.0]]


def test_a_state_is_numbers_and_text_without_pickle(trained, optimizer, tmp_path: Path) -> None:
    learn(trained, optimizer)
    write_state(tmp_path, TrainingState(1, losses=[[1, 0.5]]), trained, optimizer)
    assert names(tmp_path / "step-1") == ["state.json", "state.safetensors"]
    assert json.loads((tmp_path / "step-1/state.json").read_text())["losses"] == [[1, 0.5]]
    assert "exp_avg_sq/second" in load_file(tmp_path / "step-1/state.safetensors")
    source = Path(training_state.__file__).read_text()
    assert not any(word in source for word in ("torch.save", "torch.load", "import pickle"))


def _cut(folder: Path) -> None:
    file = folder / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def _flip(folder: Path) -> None:
    content = bytearray((folder / "state.safetensors").read_bytes())
    content[-9] ^= 1
    (folder / "state.safetensors").write_bytes(content)


def _about(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        about = json.loads((folder / "state.json").read_text())
        change(about)
        (folder / "state.json").write_text(json.dumps(about))

    return damage


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "weights cut off": _cut,
    "one bit": _flip,
    "weights gone": lambda folder: (folder / "state.safetensors").unlink(),
    "no json": lambda folder: (folder / "state.json").write_bytes(b"{"),
    "a list": lambda folder: (folder / "state.json").write_bytes(b"[]"),
    "no text": lambda folder: (folder / "state.json").write_bytes(b"\xff"),
    "json gone": lambda folder: (folder / "state.json").unlink(),
    "a step too few": _about(lambda about: about.pop("step")),
    "a step before the first": _about(lambda about: about.update(step=-1)),
    "losses of no numbers": _about(lambda about: about.update(losses=[["a"]])),
    "of an older swm": _about(lambda about: about.update(version=1)),
    "unknown keys": _about(lambda about: about.update(more=1)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_told_and_changes_nothing(trained, optimizer, tmp_path: Path, damage) -> None:
    learn(trained, optimizer)
    write_state(tmp_path, TrainingState(3, losses=[[3, 1.0]]), trained, optimizer)
    damage(tmp_path / "step-3")
    learn(trained, optimizer)
    before = bits(trained, optimizer)
    with pytest.raises(DamagedStateError):
        read_state(tmp_path / "step-3", trained, optimizer)
    assert equal(bits(trained, optimizer), before)


def test_the_state_of_other_weights_is_damaged_too(trained, optimizer, tmp_path: Path) -> None:
    write_state(tmp_path, TrainingState(3), trained, optimizer)
    for other in ({"third": trained["first"]}, {"first": nn.Parameter(torch.zeros(2))}):
        with pytest.raises(DamagedStateError, match="no weight"):
            read_state(tmp_path / "step-3", other, None)
