"""What of a result folder is pushed: all that swm wrote and has checked, and what may stand beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from swm.checkpoint.level import FULL, Verify, level_of
from swm.errors import HubError, nearest_file, quoted
from swm.files.front_matter import CARD
from swm.files.manifest import MANIFEST, Comparison, compare, first_of
from swm.files.private_paths import PRIVATE
from swm.files.scratch import PREFIX
from swm.files.typed_json import check, read_json
from swm.paths import expanded, is_folder
from swm.report.judgement import missed
from swm.report.record import RunReport

REPORT = "report.json"
# What people may put beside a result or change in it; all else must be as swm wrote and checked it.
BESIDE = ("*.gguf", "LICENSE*", "NOTICE*", CARD)
GGUF_MAGIC = b"GGUF"


@dataclass(frozen=True)
class Contents:
    """The files that are pushed, by their names there; why others are not; and what else is to be said."""

    folder: Path
    files: dict[str, Path]
    left_out: dict[str, str]
    notes: list[str]


def contents(folder: str | Path, gguf: Iterable[str | Path] = (), unverified: bool = False) -> Contents:
    """The files of a finished result that was checked after saving, and GGUF files from elsewhere.

    `unverified` takes a result too that was not loaded again. Raises HubError for any other folder, for a result that
    was rejected or changed, and for what is no GGUF file.
    """
    path = expanded(folder)
    if not is_folder(path):
        raise HubError(f"{folder} is no folder; name one that `swm compress` or `swm apply` wrote.{nearest_file(path)}")
    compared = compare(path)
    if compared is None:
        raise HubError(f"{folder} has no {MANIFEST}, so it is no finished result of swm, which alone can be pushed")
    level = _check_report(path, unverified)
    _check_files(folder, compared)
    beside = [name for name in (*compared.changed, *compared.foreign) if _may_be_beside(name)]
    names = sorted({*compared.same, *beside, MANIFEST} - {PRIVATE})
    files = {name: path / name for name in names}
    for each in map(expanded, gguf):
        if each.resolve() == (path / each.name).resolve() and each.name in files:
            continue
        if each.name in files or each.suffix != ".gguf":
            why = "a file of that name is in the folder" if each.name in files else "its name does not end in .gguf"
            raise HubError(f"{each} cannot be pushed with {folder}: {why}")
        files[each.name] = each
    for name in (*beside, *(files.keys() - names)):
        _check_beside(files[name])
    left_out = {PRIVATE: "it tells of this machine"} if (path / PRIVATE).exists() else {}
    notes = [] if level == FULL else [f"the result was not loaded and run after saving (verify: {level})"]
    notes += [f"{name} was changed after swm wrote it" for name in compared.changed]
    notes += [f"{name} is not of swm's own result" for name in beside if name in compared.foreign]
    return Contents(path, files, left_out, notes)


def _check_report(folder: Path, unverified: bool) -> Verify:
    """How the result was verified. Raises HubError for one that cannot be pushed."""
    report = check(RunReport, read_json(folder / REPORT, "report", HubError), str(folder / REPORT), HubError)
    judgement = report.acceptance or {}
    if judgement and not judgement.get("accepted"):
        raise HubError(f"{folder} was rejected by the `accept` of its recipe: {missed(judgement)}")
    level = level_of(report.verification)
    if level is None:
        raise HubError(f"{folder} holds no model that was loaded again and compared, so it cannot be pushed")
    if level != FULL and not unverified:
        raise HubError(
            f"{folder} was saved with verify: {level}, so nobody knows whether it loads; save it again with verify: "
            "full, or push it as it is with --unverified"
        )
    return level


def _check_files(folder: str | Path, compared: Comparison) -> None:
    unfinished = [name for name in compared.foreign if name.startswith(PREFIX)]
    if unfinished:
        raise HubError(f"{folder} is being written to: it holds {first_of(unfinished)}; wait for the end of that run")
    foreign = [name for name in compared.foreign if not _may_be_beside(name)]
    if foreign:
        raise HubError(
            f"{folder} holds what swm did not write: {first_of(foreign)}; move that away. Beside a result may stand: "
            f"{', '.join(BESIDE)}"
        )
    changed = [name for name in compared.changed if not _may_be_beside(name)]
    if changed:
        raise HubError(f"{folder} is no longer what swm checked: {first_of(changed)} was changed; save it again")
    missing = [name for name in compared.missing if name != PRIVATE]
    if missing:
        raise HubError(f"{folder} is not complete: {first_of(missing)} is gone; save it again")


def _may_be_beside(name: str) -> bool:
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in BESIDE)


def _check_beside(file: Path) -> None:
    """Raise HubError for what is no file that can be read, or no GGUF file in spite of its name."""
    try:
        with file.open("rb") as stream:
            head = stream.read(len(GGUF_MAGIC))
    except OSError as error:
        raise HubError(f"{file} cannot be read: {error.strerror or error}") from None
    if file.suffix == ".gguf" and head != GGUF_MAGIC:
        raise HubError(f"{file} is no GGUF file: it begins with {quoted(head)}; write it again with `swm export`")
