"""A plugin file whose runs take their time and leave a file each: the number of the run and that of the process.

They sleep for four seconds, or with `waits` until the folder has a file `go`. `folder` is written with `in:` before
it: a bare path would be an input of the run, which these files change.
"""

SLOW = """
from dataclasses import dataclass
from typing import ClassVar
import os, pathlib, time
from swm import DepthPruner, hookimpl
from swm.interfaces.depth import DepthProposal
from swm.model.windows import windows_without


@dataclass(frozen=True)
class Slow(DepthPruner):
    name: ClassVar[str] = "slow"
    folder: str = ""
    number: int = 0
    waits: bool = False

    def propose(self, context):
        folder = pathlib.Path(self.folder.removeprefix("in:"))
        (folder / f"{self.number}-{os.getpid()}").touch()
        end = time.monotonic() + (500 if self.waits else 4)
        while time.monotonic() < end and not (folder / "go").exists():
            time.sleep(0.1)
        return DepthProposal(windows_without([self.number % 4], context.layers))


@hookimpl
def swm_register(register):
    register(Slow)
"""
