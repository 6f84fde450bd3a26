"""Saving a model so that it loads: write aside, reload in a fresh process, compare, rename into place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from swm.checkpoint.companions import copy_companions, drop_code, keeps_code
from swm.checkpoint.image_prompt import try_image_prompt
from swm.checkpoint.level import FAST, FULL, LEVEL, NONE, Verify
from swm.checkpoint.modelling import Export
from swm.checkpoint.reload import PROCESSORS
from swm.checkpoint.shared_settings import share_settings
from swm.checkpoint.stored_check import check_stored
from swm.checkpoint.tokenizer_class import name_tokenizer_class
from swm.checkpoint.untouched import check_untouched
from swm.checkpoint.verification import Probe, check_rounded, probe, verify, verify_rest
from swm.errors import CheckpointError
from swm.files.manifest import check_ours, write_manifest
from swm.files.outputs import nearest_folder, output_folder
from swm.files.scratch import Scratch, scratch
from swm.files.writing import give_usual_permissions
from swm.vocabulary.cut_tokenizer import CutTokenizer
from swm.vocabulary.tokenizer_files import cut_tokenizer_files

__all__ = ["REPORT", "Probe", "check_output", "into_place", "probe", "save", "save_pages", "verify"]

REPORT = "report.json"
# Models in these forms take their sums in another order than the one in memory.
FORMS = {"multiplied": "with its factors multiplied out", "padded": "with zeros in its layers"}


def check_output(output: str | Path, overwrite: bool, mark: str = REPORT) -> Path:
    """See `output_folder`."""
    return output_folder(output, overwrite, mark)


def save(
    model: Any,
    parent: Path,
    output: Path,
    ids: Tensor,
    write_extras: Callable[[Path, dict[str, Any]], None],
    overwrite: bool = False,
    exported: Export | None = None,
    trust_remote_code: bool = False,
    cut: CutTokenizer | None = None,
    how: Verify = FULL,
    weights: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Save a Hugging Face folder and verify it. Until the last rename nothing stands at `output`.

    Args:
        model: The model in memory, which the saved one is compared with.
        parent: The folder whose tokenizer files are taken over.
        output: Where the folder goes.
        ids: Token ids `[samples, seq]` on which both are compared.
        write_extras: Called with the new folder and the verification; adds the files that describe the run.
        overwrite: Whether a folder of an earlier run may be replaced.
        exported: The form in which the model is saved, if that is not the one in memory.
        trust_remote_code: Whether code in the parent's folder may run.
        cut: The tokenizer of a model whose vocabulary was cut; the parent's files are cut alike.
        how: How thoroughly the folder is checked, see `Verify`.
        weights: The numbers of the original model, where they lie in memory; otherwise the parent's folder has them.

    Returns:
        What the verification found, and its `level`. `left_out` lists in sentences what of the parent was not taken
        over. `multiplied` or `padded` says how far the model in that form is from the one in memory; the rest then
        compares with that form.

    Raises:
        CheckpointError: When the reloaded model or tokenizer differs, or when the folder cannot be written.
    """
    exported = exported or Export(model)
    image, unseen = try_image_prompt(exported.model, parent, trust_remote_code)
    before = probe(model, ids, image, exported.memory)
    rounded = None
    form = "multiplied" if exported.multiplied else "padded" if exported.padded else ""
    # Spread over several devices, only the model in memory has what moves the states from one to the next.
    if form and len({p.device for p in exported.model.parameters()}) == 1:
        given, before = before, probe(exported.model, ids, image, exported.memory)
        rounded = check_rounded(given, before, FORMS[form])
    try:
        with scratch(nearest_folder(output), indexed=True) as place:
            fresh = place.new / output.name
            fresh.mkdir()
            exported.write(fresh)
            left_out = copy_companions(parent, fresh, trust_remote_code)
            if exported.needs_code:
                left_out += name_tokenizer_class(parent, fresh, trust_remote_code)
            if cut is not None:
                left_out += cut_tokenizer_files(fresh, cut.original, cut.kept)
            share_settings(fresh)
            verification: dict[str, Any] = {LEVEL: how}
            if how == FULL:
                verification |= verify(fresh, before, exported.model, keeps_code(fresh), exported.memory)
            elif how == FAST:
                verification |= check_stored(fresh, exported, keeps_code(fresh), trust_remote_code)
            if exported.tower:
                original = parent if weights is None else weights
                verification["tensors_untouched"] = (
                    None if how == NONE else check_untouched(exported.model, exported.tower, original, fresh)
                )
            left_out += unseen
            if rounded is not None:
                verification[form] = rounded
            rest = verification.pop("rest", None)
            if rest is not None:
                verify_rest(rest, exported.model, parent, trust_remote_code, cut)
                left_out += _drop_broken(fresh, rest, needs_processor=bool(exported.tower))
            if left_out:
                verification["left_out"] = left_out
            write_extras(fresh, verification)
            _finish(place, fresh, output, overwrite)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise CheckpointError(f"output {output} cannot be written: {why}") from error
    return verification


def save_pages(output: Path, write: Callable[[Path], Any], overwrite: bool = False) -> None:
    """Write a folder that holds no model, such as what tells of a rejected one: all of it, or nothing.

    Raises CheckpointError when it cannot be written.
    """
    try:
        with scratch(nearest_folder(output), indexed=True) as place:
            fresh = place.new / output.name
            fresh.mkdir()
            write(fresh)
            _finish(place, fresh, output, overwrite)
    except OSError as error:
        raise CheckpointError(f"output {output} cannot be written: {error.strerror or error}") from error


def _finish(place: Scratch, fresh: Path, output: Path, overwrite: bool) -> None:
    """Sign a folder in which all is written, and put it into its place; the arguments are those of `into_place`.

    Args:
        place: The scratch folder that the new folder lies in.
        fresh: The new folder.
        output: Where it goes.
        overwrite: Whether a folder of an earlier run may be replaced.
    """
    write_manifest(fresh)
    give_usual_permissions(*fresh.rglob("*"))
    into_place(place, fresh, output, overwrite)


def _drop_broken(folder: Path, rest: dict[str, Any], needs_processor: bool) -> list[str]:
    """Remove what the fresh process could not load and nobody needs for text; returns what it was, in sentences.

    The processor of a model that `needs_processor` stays: where the packages for it are, it can be loaded.
    """
    notes = []
    if rest["processor"] and needs_processor:
        notes.append(f"the processor was copied and cannot be loaded here: {rest['processor']}")
    elif rest["processor"]:
        gone = [name for name in PROCESSORS if (folder / name).is_file()]
        for name in gone:
            (folder / name).unlink()
        notes.append(f"{', '.join(gone)} cannot be loaded here and was left out: {rest['processor']}")
    for file, keys in rest["code"].items():
        drop_code(folder, file, keys)
        notes.append(f"{file}: auto_map no longer names {', '.join(keys)}, whose code cannot be loaded here")
    return notes


def into_place(place: Scratch, fresh: Path, output: Path, overwrite: bool) -> None:
    """Rename a finished folder; an old one is removed only once the new one is in place.

    Args:
        place: The scratch folder that the new folder lies in.
        fresh: The new folder.
        output: Where it goes.
        overwrite: Whether a folder of an earlier run may be replaced.

    Raises:
        CheckpointError: For a folder that appeared during the run, or that is not one of ours.
    """
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        fresh.rename(output)
        return
    if not overwrite:
        raise CheckpointError(f"output {output} appeared while the run was going; nothing was written")
    check_ours(output)
    place.replace(fresh, output)
