"""What the jobs do by which the test kit tries an executor. A worker imports this module, and nothing that is slow."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from typing import Any


def carried_out(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row of a job: which one it was, and where. It may be told to raise an error, or to end its process."""
    if job["do"] == "raise":
        raise ValueError(f"job {job['id']} is wrong")
    if job["do"] == "die":
        os._exit(9)
    time.sleep(0.01)
    return {"id": job["id"], "process": [platform.node(), os.getpid()]}
