"""Saving a model so that it loads: write aside, reload in a fresh process, compare, rename into place."""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from swm import children, reload
from swm.errors import CheckpointError, ModelError
from swm.modelling import Export
from swm.processes import ENVIRONMENT
from swm.quiet import quiet_transformers

# Whatever else a parent folder holds that belongs to its tokenizer or its licence.
COMPANIONS = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
    "preprocessor_config.json",
    "LICENSE*",
    "NOTICE*",
)
GENERATED_TOKENS = 8
REPORT = "report.json"


@dataclass(frozen=True)
class Probe:
    """Token ids with the logits `[samples, seq, vocabulary]` and the greedy tokens of the model in memory."""

    ids: Tensor
    logits: Tensor
    continued: Tensor
    dtype: torch.dtype
    device: str

    @property
    def tolerance(self) -> float:
        """The largest difference of logits that may come from the order of floating-point sums."""
        if self.dtype in (torch.float32, torch.float64):
            return 1e-5
        return 2 * torch.finfo(self.dtype).eps * float(self.logits.abs().max())


@torch.no_grad()
def probe(model: Any, ids: Tensor) -> Probe:
    """Run the model in memory. Raises ModelError when its logits are not finite."""
    ids = ids.to(model.device)
    logits = model(input_ids=ids, use_cache=False).logits.float().cpu()
    if not torch.isfinite(logits).all():
        raise ModelError("the model's logits are not a number or infinite")
    with quiet_transformers():
        generated = reload.generate(model, ids[:1], GENERATED_TOKENS).cpu()
    return Probe(ids.cpu(), logits, generated, model.dtype, str(model.device))


def check_output(output: str | Path, overwrite: bool, mark: str = REPORT) -> Path:
    """The output folder's path. Raises CheckpointError when it exists or cannot be made; leaves nothing behind.

    `mark` is the file that tells a folder of ours, which may be overwritten, from somebody else's.
    """
    path = Path(output)
    if path.name in ("", "..") or Path.cwd().is_relative_to(path.resolve()):
        raise CheckpointError(f"output '{output}' holds the folder you are in; name a folder of its own, as in out/new")
    recover(path)
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"output {output} is a file")
    if path.exists() and not overwrite:
        raise CheckpointError(f"output {output} exists; choose another or pass --overwrite")
    if path.exists() and any(path.iterdir()) and not (path / mark).is_file():
        raise CheckpointError(f"output {output} has no {mark}, so swm did not write it; choose another folder")
    try:
        nearest = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryDirectory(dir=nearest, prefix=".swm-"):
            pass
    except OSError as error:
        raise CheckpointError(f"output {output} cannot be written: {error.strerror or error}") from None
    return path


def check_apart(output: Path, parent: Path) -> None:
    """Raise CheckpointError when writing `output` would replace the model that is read from `parent`."""
    if parent.resolve().is_relative_to(output.resolve()):
        raise CheckpointError(f"output {output} holds the model that is compressed; choose another")


def recover(path: Path) -> None:
    """Clear what a killed run left beside `path`, and put a folder back that it had moved away."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.swm-*"):
        kind, _, pid = leftover.name.removeprefix(f".{path.name}.swm-").partition("-")
        # Our own number is that of a dead run too: in a container every run may have the same.
        if not pid.isdigit() or (int(pid) != os.getpid() and _alive(int(pid))):
            continue
        if kind == "old" and not path.exists():
            leftover.rename(path)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def save(
    model: Any,
    parent: Path,
    output: Path,
    ids: Tensor,
    write_extras: Callable[[Path, dict[str, Any]], None],
    overwrite: bool = False,
    exported: Export | None = None,
) -> dict[str, Any]:
    """Save a Hugging Face folder at `output` and return what the verification found.

    `model` is the one in memory, `exported` the form in which it is saved if that is another. `parent` is the folder
    whose tokenizer files are copied byte for byte, `ids` the tokens that are compared, and `write_extras(folder,
    verification)` adds the files that describe the run. Until the last rename nothing stands at `output`. Raises
    CheckpointError when the reloaded model differs.
    """
    before = probe(model, ids)
    exported = exported or Export(model)
    fresh = output.with_name(f".{output.name}.swm-new-{os.getpid()}")
    try:
        fresh.mkdir(parents=True)
        exported.write(fresh)
        copy_companions(parent, fresh)
        verification = verify(fresh, before, exported.model, exported.needs_code)
        write_extras(fresh, verification)
        _readable(fresh)
        into_place(fresh, output, overwrite)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"output {output} cannot be written: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return verification


def _readable(folder: Path) -> None:
    """Give every file the permissions that a new file has here; safetensors writes for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for file in folder.rglob("*"):
        file.chmod((0o777 if file.is_dir() else 0o666) & ~mask)


def into_place(fresh: Path, output: Path, overwrite: bool) -> None:
    """Rename a finished folder; an old one goes only once the new one stands. Raises CheckpointError."""
    if output.exists():
        if not overwrite:
            raise CheckpointError(f"output {output} appeared while the run was going; nothing was written")
        old = output.with_name(f".{output.name}.swm-old-{os.getpid()}")
        output.rename(old)
        try:
            fresh.rename(output)
        except BaseException:
            old.rename(output)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        fresh.rename(output)


def copy_companions(parent: Path, folder: Path) -> None:
    """Copy tokenizer and licence files byte for byte; what the model itself wrote stays."""
    for pattern in COMPANIONS:
        for file in parent.glob(pattern):
            target = folder / file.name
            if file.is_dir():
                shutil.copytree(file, target, dirs_exist_ok=True)
            elif not target.exists():
                shutil.copyfile(file, target)


def verify(folder: Path, before: Probe, model: nn.Module, trust_remote_code: bool = False) -> dict[str, Any]:
    """Load the folder in a fresh process and compare. Raises CheckpointError when anything differs."""
    # Inside the folder, so that what a killed run leaves is cleared with it.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".probe-") as temporary:
        file = Path(temporary) / "probe.safetensors"
        save_file(
            {name: getattr(before, name).contiguous() for name in ("ids", "logits", "continued")},
            file,
            metadata={"threads": str(torch.get_num_threads()), "device": before.device},
        )
        options = ["--trust-remote-code"] if trust_remote_code else []
        command = children.command(reload.__file__, str(folder), str(file), *options)
        # It is alone, whatever this process belongs to.
        environment = {**children.environment(without=ENVIRONMENT), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else f"the process that loads it ended with {done.returncode}"
        raise CheckpointError(f"the saved model cannot be loaded: {reason}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    found["tolerance"] = before.tolerance
    expected = sum(p.numel() for p in model.parameters())
    problems = [
        f"logits differ by {found['max_abs_difference']:g} (allowed {before.tolerance:g})"
        if not found["max_abs_difference"] <= before.tolerance
        else "",
        "" if found["generated_equal"] else "generate() gives other tokens",
        "" if found["parameters"] == expected else f"{found['parameters']} parameters instead of {expected}",
        f"weights are missing: {found['missing_keys']}" if found["missing_keys"] else "",
        f"weights are left over: {found['unexpected_keys']}" if found["unexpected_keys"] else "",
    ]
    wrong = "; ".join(filter(None, problems))
    if wrong:
        raise CheckpointError(f"the saved model is not the one in memory: {wrong}")
    return found
