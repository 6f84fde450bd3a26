"""The folder of an inspection: its figures, and its numbers as JSON."""

from __future__ import annotations

from pathlib import Path

from swm.checkpoint import saving as checkpoint
from swm.errors import CheckpointError
from swm.files.manifest import write_manifest
from swm.files.outputs import nearest_folder
from swm.files.private_paths import without_private_paths
from swm.files.scratch import scratch
from swm.files.writing import write_json
from swm.measure.inspection import Inspection
from swm.paths import expanded
from swm.report.figures import write_figures

NUMBERS = "inspection.json"


def check_folder(folder: str | Path, overwrite: bool) -> Path:
    """The folder's path. Raises CheckpointError when it holds something, or cannot be made."""
    return checkpoint.check_output(folder, overwrite or _is_empty(expanded(folder)), NUMBERS)


def write_inspection(inspection: Inspection, folder: str | Path, overwrite: bool = False) -> Path:
    """Write `similarity`, `influence` and `norms`, each `.png` and `.svg`, and `inspection.json` into a new folder.

    Until the last rename nothing stands there. Raises CheckpointError when it holds something and `overwrite` is not
    given, when swm did not write what it holds, or when it cannot be written.
    """
    path = check_folder(folder, overwrite)
    try:
        with scratch(nearest_folder(path), indexed=True) as place:
            fresh = place.new / path.name
            fresh.mkdir()
            write_json(fresh / NUMBERS, without_private_paths(inspection.to_dict()))
            write_figures(inspection, fresh)
            write_manifest(fresh)
            checkpoint.into_place(place, fresh, path, overwrite or _is_empty(path))
    except OSError as error:
        why = getattr(error, "strerror", None) or error
        raise CheckpointError(f"output {folder} cannot be written: {why}") from error
    return path


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
