"""How much memory the fresh process may take for weights that it does not map from the saved folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swm.files.scratch import clear_dead, scratch
from swm.memory.working_memory import WorkingMemory


@contextmanager
def checking_room(folder: Path, memory: WorkingMemory) -> Iterator[dict[str, str]]:
    """What the process that checks a folder is told where the weights exceed what `memory` has left; else nothing.

    A scratch folder holds its files while the block runs; after a kill the next run clears it.
    """
    if sum(file.stat().st_size for file in folder.glob("*.safetensors")) <= memory.left:
        yield {}
        return
    parent = memory.existing_folder()
    clear_dead(parent)
    with scratch(parent) as place:
        yield {"scratch": str(place.new), "room": str(int(memory.left))}
