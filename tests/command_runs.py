"""Commands of swm from end to end, in this process."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from swm.cli import main


@dataclass
class Ran:
    """A command that came to its end."""

    code: Any
    out: str
    err: str


def run(folder: Path, *arguments: str) -> Ran:
    """`swm` with these arguments in this process and that folder."""
    # The report tells the number of threads, and a module's fixtures run before a test has set it.
    torch.set_num_threads(1)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["swm", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    return Ran(ended.value.code, out.getvalue(), err.getvalue())
