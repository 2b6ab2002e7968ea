"""Running jobs in fresh processes, and waiting for them without using a CPU."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import asdict
from tempfile import TemporaryFile
from typing import Any, ClassVar, Protocol, cast

from edgedistill.errors import StageError
from edgedistill.provenance import PACKAGE

COMMAND = (sys.executable, "-P", "-m")
TIMEOUT_S = 3600.0
LEAST_S = 1.0  # to read what a process said that has ended by now
LAST_LINES = 5


class Job(Protocol):
    """What a process is asked: a frozen dataclass of plain values."""

    KIND: ClassVar[str]
    WORKER: ClassVar[str]  # the module that does it

    @property
    def threads(self) -> int:
        """Threads that the process may use."""


class Running:
    """A job that a fresh process has begun."""

    def __init__(self, job: Job, what: str) -> None:
        """Start it.

        Args:
            job: what to do.
            what: the model's name, for the error.
        """
        self._kind, self._what, fields = job.KIND, what, cast(Any, job)
        self._began = time.monotonic()
        with TemporaryFile("w+", encoding="utf-8") as asked:
            json.dump({"kind": job.KIND, **asdict(fields)}, asked)
            asked.seek(0)
            self._process = subprocess.Popen(
                (*COMMAND, job.WORKER),
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                env=environment(job.threads),
            )

    def answer(self, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """Wait for the process, and return what it answers.

        Args:
            timeout_s: so long after its begin the process is ended.

        Raises:
            StageError: the process failed, was killed, or took too long; the text has the end of what it said.
        """
        left = timeout_s - (time.monotonic() - self._began)
        try:
            said, errors = self._process.communicate(timeout=max(left, min(timeout_s, LEAST_S)))
        except subprocess.TimeoutExpired:
            raise StageError(
                f"{self._what}: the process that measures {self._kind} did not end within {timeout_s:g} s"
            ) from None
        finally:
            self.end()
        code = self._process.returncode
        if code != 0:
            last = "\n".join(errors.strip().splitlines()[-LAST_LINES:]) or "it said nothing"
            raise StageError(f"{self._what}: the process that measures {self._kind} {_ending(code)}:\n{last}")
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        return answer

    def end(self) -> None:
        """Kill the process unless it has ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def run(job: Job, what: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Return what a fresh process answers; arguments and errors are those of `Running` and its answer."""
    return Running(job, what).answer(timeout_s)


def run_together(jobs: Iterable[tuple[Job, str]], at_once: int) -> Generator[dict[str, Any], None, None]:
    """Yield what fresh processes answer, in the order of the jobs; so many run at a time, so nothing may be timed.

    Whoever stops asking closes this, which ends what still runs.
    """
    running: deque[Running] = deque()
    try:
        for job, what in jobs:
            if len(running) == at_once:
                yield running[0].answer()
                running.popleft()
            running.append(Running(job, what))
        while running:
            yield running[0].answer()
            running.popleft()
    finally:
        for one in running:
            one.end()


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
