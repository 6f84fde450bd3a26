"""A Slurm cluster of one node, this machine, for tests: Debian's packages, with files and ports of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
COMMANDS = ("slurmctld", "slurmd", "sbatch", "munged")
# No accounting, no control groups: a container may have neither a database nor the right to make groups.
CONFIG = """\
ClusterName=swm
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={control}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 State=UP
"""


@contextmanager
def slurm_cluster() -> Iterator[dict[str, str]]:
    """The variables by which Slurm's commands find the cluster. Skips where it cannot be had, and says why."""
    _install()
    with tempfile.TemporaryDirectory(prefix="swm-slurm-") as name, ExitStack() as running:
        folder = Path(name)
        # Slurm's and munge's daemons refuse folders that others may write.
        folder.chmod(0o755)
        for part in ("state", "spool"):
            (folder / part).mkdir()
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        config = folder / "slurm.conf"
        config.write_text(CONFIG.format(host=host, folder=folder, control=_free_port(), node=_free_port()))
        variables = {**os.environ, "SLURM_CONF": str(config)}
        munge = [f"--{part}-file={folder}/munge.{part}" for part in ("key", "log", "pid", "seed")]
        daemons = {
            "munged": ["--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
            "slurmctld": ["-D", "-c", "-f", str(config)],
            "slurmd": ["-D", "-N", host, "-f", str(config)],
        }
        for daemon, options in daemons.items():
            running.enter_context(_running(daemon, options, variables, folder / f"{daemon}.out"))
            if daemon == "munged":
                _wait(lambda: (folder / "munge.socket").exists(), folder, "munged opened no socket")
        _wait(lambda: "idle" in _answer(variables), folder, "no node became idle")
        yield {"SLURM_CONF": str(config)}


def _install() -> None:
    """Install the packages where they are missing."""
    if all(shutil.which(command) for command in COMMANDS):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("Slurm is not installed, and Debian's packages can only be installed by root with apt-get")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Debian would start the daemons with the configuration of the machine.
    policy = Path("/usr/sbin/policy-rc.d")
    own_policy = not policy.exists()
    if own_policy:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            done = subprocess.run(["apt-get", "-qq", *command], env=quiet, capture_output=True, text=True, timeout=500)
            if done.returncode:
                pytest.skip(f"Slurm cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    finally:
        if own_policy:
            policy.unlink()


@contextmanager
def _running(daemon: str, options: list[str], variables: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as out:
        process = subprocess.Popen([shutil.which(daemon) or daemon, *options], env=variables, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answer(variables: dict[str, str]) -> str:
    command = ["sinfo", "--noheader", "--format", "%T"]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60).stdout


def _wait(ready: Callable[[], bool], folder: Path, otherwise: str) -> None:
    end = time.monotonic() + 60
    while not ready():
        if time.monotonic() > end:
            logs = [f"{log.name}: {log.read_text(errors='replace')[-600:]}" for log in folder.glob("*.[ol][uo][tg]")]
            pytest.skip(f"Slurm does not run here: {otherwise}; " + "; ".join(logs))
        time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
