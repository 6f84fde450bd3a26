"""Installing a runtime that is not transformers for the tests marked `client`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def install_client(client: str, target: Path) -> Path:
    """Install packages, named with spaces between them, and nothing else into a folder, never into the environment.

    Skips where they cannot be had.
    """
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--retries=1", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--no-deps", "--target", str(target), *client.split()], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"{client} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return target
