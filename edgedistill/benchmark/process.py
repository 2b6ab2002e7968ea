"""Running a job in a fresh process, and waiting for it without using a CPU."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

from edgedistill.errors import StageError
from edgedistill.provenance import PACKAGE

COMMAND = (sys.executable, "-P", "-m")
TIMEOUT_S = 3600.0
LAST_LINES = 5


class Job(Protocol):
    """What a process is asked: a frozen dataclass of plain values."""

    KIND: ClassVar[str]
    WORKER: ClassVar[str]  # the module that does it

    @property
    def threads(self) -> int:
        """Threads that the process may use."""


def run(job: Job, what: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Return what a fresh process answers.

    Args:
        job: what to do.
        what: the model's name, for the error.
        timeout_s: after this the process is ended.

    Raises:
        StageError: the process failed, was killed, or took too long; the text has the end of what it said.
    """
    fields: Any = job
    text = json.dumps({"kind": job.KIND, **asdict(fields)})
    try:
        done = subprocess.run(
            (*COMMAND, job.WORKER),
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            env=environment(job.threads),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StageError(f"{what}: the process that measures {job.KIND} did not end within {timeout_s:g} s") from None
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-LAST_LINES:]) or "it said nothing"
        raise StageError(f"{what}: the process that measures {job.KIND} {_ending(done.returncode)}:\n{said}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a fresh process: the running package, so many threads, no network, no telemetry."""
    places = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(places),
        "ORT_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
    }


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with code {returncode}"
    hint = "; is there enough memory?" if -returncode == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-returncode).name}{hint}"
