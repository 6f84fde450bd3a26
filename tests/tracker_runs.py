"""A run as trackers are told of it, in a process of its own: their libraries change settings of a process for good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

RUN = """
import json, sys
from pathlib import Path
from swm.builtin.trackers import swm_register
from swm.plugins.registry import Registry

registry = Registry()
swm_register(lambda thing: registry.register(thing, "swm"))
tracker = registry.build("tracker", json.loads(sys.argv[1]))
earlier = sys.argv[2]
page = Path("report.html")
page.write_text("<h1>report</h1>")
tracker.check()
parameters = {"model": "tiny", "stages.0.depth.target.ratio": 0.4, "stages.1.recover.name": "lora"}
run = tracker.resume(earlier, parameters) if earlier else tracker.start(parameters)
if not earlier:
    run.log({"dense/perplexity": 9.0, "dense/perplexity/standard_error": 0.5})
    run.log({"1-recover/loss": 2.5}, step=5)
    run.log({"2-recover/loss": 3.5}, step=1)
else:
    run.log({"1-recover/loss": 1.5}, step=10)
ENDING
print(json.dumps([run.id, run.link]))
"""
FINISHED = 'run.attach([page]); run.finish({"seed": 3, "answers": "größer"})'


def follow(
    spec: Mapping[str, object], folder: Path, ending: str, earlier: str = "", **variables: str
) -> tuple[str, str]:
    """The id and the link of a run.

    Args:
        spec: The tracker, as in a recipe.
        folder: The working folder of the process.
        ending: Python for the last call.
        earlier: The id of a run that is gone on with.
        variables: Variables of the process.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **variables}
    command = [sys.executable, "-c", RUN.replace("ENDING", ending), json.dumps(dict(spec)), earlier]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Nothing else is printed: what swm prints may be JSON.
    number, link = json.loads(done.stdout)
    return number, link
