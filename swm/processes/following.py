"""A process that ends with the one that started it, however that one ended."""

from __future__ import annotations

import os
import signal
import threading
import time

# How long a process has to clear what is half done, in seconds.
PATIENCE = 10.0


def end_with_parent(parent: int) -> None:
    """From now on this process ends in order once `parent`, which started it, is gone: nobody would read its result."""
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)
