"""Whether a saved folder loads to what was in memory: asked of a fresh process."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from swm.checkpoint import reload
from swm.checkpoint.checking_room import checking_room
from swm.errors import CheckpointError, brief
from swm.loading.model_class import auto_class
from swm.memory.working_memory import WorkingMemory
from swm.model.finite import check_finite
from swm.model.quiet import quiet_transformers
from swm.processes import children
from swm.processes.ranks import ENVIRONMENT
from swm.vocabulary.cut_tokenizer import CutTokenizer

GENERATED_TOKENS = 8
# Shares of the largest logit. Measured with all projections of a model of 5 layers and width 64 in factors: 2.3e-6 in
# float32, up to 6 units of rounding in half precision. Deeper models round more often.
ROUNDING = 1e-5
HALF_ROUNDING_UNITS = 16


@dataclass(frozen=True)
class Probe:
    """Token ids with the logits `[samples, seq, vocabulary]` and the greedy tokens of the model in memory.

    `image` are the inputs of an image prompt, for a model that takes one, and `image_logits` what it answers.
    """

    ids: Tensor
    logits: Tensor
    continued: Tensor
    dtype: torch.dtype
    device: str
    image: Mapping[str, Tensor] = field(default_factory=dict)
    image_logits: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """All that the fresh process reads, by name."""
        values = {"ids": self.ids, "logits": self.logits, "continued": self.continued}
        if self.image_logits is not None:
            values.update({f"image.{name}": value for name, value in self.image.items()})
            values["image_logits"] = self.image_logits
        return {name: value.cpu().contiguous() for name, value in values.items()}

    @property
    def tolerance(self) -> float:
        """The largest difference of logits that may come from the order of floating-point sums."""
        if self.dtype in (torch.float32, torch.float64):
            return 1e-5
        return 2 * torch.finfo(self.dtype).eps * self.largest

    @property
    def rounding(self) -> float:
        """The largest difference of logits that may come from rounding products of weights to the model's dtype."""
        half = self.dtype not in (torch.float32, torch.float64)
        share = HALF_ROUNDING_UNITS * torch.finfo(self.dtype).eps if half else ROUNDING
        return max(self.tolerance, share * self.largest)

    @property
    def largest(self) -> float:
        """The largest size of a logit; no tensor of their sizes is made on the way."""
        return float(torch.linalg.vector_norm(self.logits, torch.inf))


@torch.no_grad()
def probe(
    model: Any, ids: Tensor, image: Mapping[str, Tensor] | None = None, memory: WorkingMemory | None = None
) -> Probe:
    """Run the model in memory.

    Args:
        model: The model.
        ids: Token ids `[samples, seq]`.
        image: The inputs of an image prompt, see `swm.checkpoint.image_prompt`.
        memory: Where the logits go; into memory by default.

    Returns:
        What the model answers.

    Raises:
        ModelError: Its logits are not finite.
        CheckpointError: It cannot generate: some classes need a layer of each kind for that.
    """
    ids, memory = ids.to(model.device), memory or WorkingMemory()
    logits = _logits(model, {"input_ids": ids}, memory)
    try:
        with quiet_transformers():
            generated = reload.generate(model, ids[:1], max_new_tokens=GENERATED_TOKENS).cpu()
    except Exception as error:  # each class fails in its own way
        why = f"{type(error).__name__}: {brief(error)}"
        raise CheckpointError(f"the compressed model cannot generate with its key-value cache: {why}") from error
    image_logits = None
    if image:
        image_logits = _logits(model, image, memory)
    return Probe(ids.cpu(), logits, generated, model.dtype, str(model.device), image or {}, image_logits)


def _logits(model: Any, inputs: Mapping[str, Tensor], memory: WorkingMemory) -> Tensor:
    """The logits in float32, on the CPU. Raises ModelError when they are not finite."""
    made = model(**inputs, use_cache=False).logits
    check_finite(made, "the next-token scores of the compressed model hold", model.dtype)
    return memory.empty(made.shape, torch.float32).copy_(made)


def check_rounded(before: Probe, saved: Probe, form: str = "with its factors multiplied out") -> dict[str, Any]:
    """How far the model in the form in which it is saved is from the one in memory; `form` says what that is.

    Raises CheckpointError when rounding does not explain it. Tokens between which the logits hardly differ may change.
    """
    difference = reload.largest_difference(saved.logits, before.logits)
    if not difference <= before.rounding:
        raise CheckpointError(
            f"the model {form} is not the one in memory: logits differ by {difference:g} (allowed {before.rounding:g})"
        )
    equal = torch.equal(saved.continued, before.continued)
    return {"max_abs_difference": difference, "tolerance": before.rounding, "generated_equal": equal}


def verify(
    folder: Path,
    before: Probe,
    model: nn.Module,
    trust_remote_code: bool = False,
    memory: WorkingMemory | None = None,
) -> dict[str, Any]:
    """Load a saved folder in a fresh process and compare it with the model in memory.

    Args:
        folder: The saved folder.
        before: Logits and tokens of the model in memory.
        model: The model in the form in which it was saved.
        trust_remote_code: Whether code in the folder may run.
        memory: Says how much the other process may keep in memory of weights that it does not map from the folder, and
            where the rest goes; all of it may be in memory by default.

    Returns:
        What was compared, with the `tolerance`; under `rest` what `verify_rest` compares.

    Raises:
        CheckpointError: When the folder cannot be loaded or anything differs.
    """
    # Inside the folder, so that what a killed run leaves is cleared with it.
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".probe-") as temporary,
        checking_room(folder, memory or WorkingMemory()) as room,
    ):
        file = Path(temporary) / "probe.safetensors"
        auto = auto_class(getattr(model, "config", None), trust_remote_code).__name__
        metadata = {
            "threads": str(torch.get_num_threads()),
            "matmul_precision": torch.get_float32_matmul_precision(),
            "device": before.device,
            "class": auto,
            **room,
        }
        save_file(before.tensors(), file, metadata=metadata)
        options = ["--trust-remote-code"] if trust_remote_code else []
        command = children.command(reload.__file__, str(folder), str(file), *options)
        # It is alone, whatever this process belongs to.
        done = in_fresh_process(command, {**children.environment(without=ENVIRONMENT), "HF_HUB_OFFLINE": "1"})
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else f"the process that loads it ended with {done.returncode}"
        raise CheckpointError(f"the saved model cannot be loaded: {reason}")
    comparison: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    comparison["tolerance"] = before.tolerance
    expected = sum(p.numel() for p in model.parameters())
    problems = [
        f"logits differ by {comparison['max_abs_difference']:g} (allowed {before.tolerance:g})"
        if not comparison["max_abs_difference"] <= before.tolerance
        else "",
        f"logits of an image prompt differ by {comparison['image_difference']:g} (allowed {before.tolerance:g})"
        if not comparison.get("image_difference", 0.0) <= before.tolerance
        else "",
        ""
        if trust_remote_code or comparison["class"] == type(model).__name__
        else f"it loads as a {comparison['class']}, not a {type(model).__name__}",
        "" if comparison["generated_equal"] else "generate() gives other tokens",
        "" if comparison["parameters"] == expected else f"{comparison['parameters']} parameters instead of {expected}",
        f"weights are missing: {comparison['missing_keys']}" if comparison["missing_keys"] else "",
        f"weights are left over: {comparison['unexpected_keys']}" if comparison["unexpected_keys"] else "",
    ]
    wrong = "; ".join(filter(None, problems))
    if wrong:
        raise CheckpointError(f"the saved model is not the one in memory: {wrong}")
    return comparison


def in_fresh_process(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, with these variables and no others, and wait for its end."""
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def verify_rest(
    rest: dict[str, Any],
    model: Any,
    parent: Path,
    trust_remote_code: bool = False,
    cut: CutTokenizer | None = None,
) -> None:
    """Compare generation config and tokenizer, as the fresh process read them, with what they come from.

    Args:
        rest: What the fresh process read besides the model.
        model: The model in memory.
        parent: The folder whose tokenizer was copied.
        trust_remote_code: Whether code in the parent's folder may run.
        cut: The tokenizer of a model whose vocabulary was cut; all but its ids must still be the parent's.

    Raises:
        CheckpointError: When anything differs.
    """
    config = getattr(model, "generation_config", None)
    if config is not None and rest["generation"] is not None:
        expected = reload.generation_values(config)
        differs = [key for key in expected if expected[key] != rest["generation"].get(key)]
        if differs:
            raise CheckpointError(f"the saved generation config is not the one in memory: {', '.join(differs)}")
    original = _tokenizer_of(parent, trust_remote_code)
    if original is None:
        return
    if cut is not None:
        original[reload.IDS] = reload.facts_of(cut.tokenizer)[reload.IDS]
    saved = rest["tokenizer"]
    if saved is None or "error" in saved:
        raise CheckpointError(f"the saved tokenizer cannot be loaded: {(saved or {}).get('error', 'it has no files')}")
    differs = [key for key in original if original[key] != saved.get(key)]
    if differs:
        raise CheckpointError(f"the saved tokenizer is not that of {parent}: {', '.join(differs)} differ")


def _tokenizer_of(parent: Path, trust_remote_code: bool) -> dict[str, Any] | None:
    """What the parent's own tokenizer gives; None where there is none."""
    with quiet_transformers():
        facts = reload.tokenizer_facts(str(parent), trust_remote_code)
    return None if facts is None or "error" in facts else facts
