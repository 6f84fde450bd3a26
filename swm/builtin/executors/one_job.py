"""One job in a process of its own: read from a file and its row written to another, both JSON.

`python -P one_job.py ORDER` is the command that a queue of a cluster carries; it needs nothing of the process that gave
the order but the files and the variables.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

from swm.files import json_text as jsontext
from swm.files.writing import write_json
from swm.interfaces.executor import Job, Row
from swm.processes.following import end_with_parent
from swm.processes.signals import exit_code, stoppable

ORDER, ROW = "order.json", "row.json"


def order_text(work: Callable[[Job], Row], job: Job) -> str:
    """What is to be called, with what, and in which folder. Raises TypeError for a job that is no plain data."""
    order = {"module": work.__module__, "function": work.__qualname__, "job": job, "cwd": os.getcwd()}
    return jsontext.dumps(order, indent=2) + "\n"


def take_row(folder: Path) -> Row | None:
    """The row of the job whose order lies in `folder`; None while there is none. It is taken once."""
    try:
        row: Row = jsontext.restored(json.loads((folder / ROW).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    (folder / ROW).unlink(missing_ok=True)
    return row


def carry_out_order(file: Path) -> None:
    """Do what an order says and write the row beside it."""
    order: dict[str, Any] = jsontext.restored(json.loads(file.read_text(encoding="utf-8")))
    if os.path.isdir(order["cwd"]):
        os.chdir(order["cwd"])
    work = attrgetter(order["function"])(importlib.import_module(order["module"]))
    write_json(file.with_name(ROW), work(order["job"]))


def main(file: str) -> None:
    """The process: it ends in order on signals, and with the process that started it."""
    end_with_parent(os.getppid())
    with stoppable(last=True) as stopping:
        try:
            carry_out_order(Path(file))
        except BaseException:
            if stopping.number is not None:
                os._exit(exit_code(stopping.number))
            raise


if __name__ == "__main__":
    main(sys.argv[1])
