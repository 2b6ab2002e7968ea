import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from tiny_artifact import texts, write_onnx

from edgedistill.benchmark import measure, process, worker
from edgedistill.benchmark.jobs import AnswersJob, LatencyAnswer, LatencyJob
from edgedistill.errors import StageError
from edgedistill.provenance import PACKAGE
from edgedistill.runtimes import onnxruntime

HEAVY = {"torch", "transformers", "pydantic", "onnx", "rich", "datasets", "pandas", "sklearn"}
THREADS = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")
TEXTS = texts(32)
WORKLOADS = {"batch_1": [[text] for text in TEXTS], "batch_8": [TEXTS[i::4] for i in range(4)]}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("artifact")
    write_onnx(root, "onnx/model.onnx")
    write_onnx(root, "onnx/model_quantized.onnx", int8=True)
    return root


def job(root: Path, file: str = "onnx/model.onnx") -> LatencyJob:
    return LatencyJob(
        "onnxruntime", str(root), file, 1, WORKLOADS, dict.fromkeys(WORKLOADS, 0.0), calls=5, seconds=0.01, kernels=True
    )


@pytest.mark.parametrize("file", ["onnx/model.onnx", "onnx/model_quantized.onnx"])
def test_a_fresh_process_times_the_model_and_gives_the_answers_it_timed(artifact: Path, file: str) -> None:
    found = LatencyAnswer.read(process.run(job(artifact, file), "tiny"))
    here = onnxruntime.load(artifact, file, threads=1)
    for name, batches in WORKLOADS.items():
        timing = found.workloads[name]
        assert len(timing.whole_ns) == len(timing.model_ns) >= 5
        assert len(timing.whole_ns) % len(batches) == 0, "whole cycles"
        assert (np.array(timing.model_ns) > 0).all()
        assert (np.array(timing.whole_ns) > timing.model_ns).all()
        assert timing.noise.wall_s >= sum(timing.whole_ns) * 1e-9
        expected = [here.run(here.encode(batch)) for batch in batches]
        assert np.allclose(timing.logits, expected, atol=1e-6)
    lengths = [here.encode([text])["attention_mask"].sum() for text in TEXTS]
    assert found.workloads["batch_1"].tokens == np.median(lengths)
    assert 10e6 < found.imported_bytes < found.peak_bytes < 300e6
    assert found.load_s > 0
    assert any("[int8]" in kernel for kernel in found.kernels) is ("quantized" in file)


FAKE = """
from collections import Counter

import numpy as np


class Model:
    labels = ("a", "b")

    def __init__(self, greedy):
        self.greedy, self.kept, self.calls = greedy, {}, Counter()
        self.take("load")

    def take(self, part):
        if part == self.greedy:
            self.kept[part] = np.ones(25_000_000)

    def encode(self, texts):
        return {"attention_mask": np.ones((len(texts), 3), np.int64)}

    def run(self, encoded):
        batch = len(encoded["attention_mask"])
        self.calls[batch] += 1
        return np.full((batch, 2), self.calls[batch], np.float32)

    def kernels(self):
        self.take("kernels")
        return {part: len(ones) for part, ones in self.kept.items()}


def load(root, file, *, threads):
    return Model(file)
"""
"""A runtime that says how often it has run a batch of that size; the part that its file names takes 200 MB."""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LatencyJob:
    (tmp_path / "fake.py").write_text(FAKE, encoding="utf-8")
    begin = f"import edgedistill.runtimes as runtimes; runtimes.__path__.append({str(tmp_path)!r})"
    script = f"{begin}; from edgedistill.benchmark import worker; worker.main()"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-P", "-c", script))
    return replace(job(tmp_path), runtime="fake")


@pytest.mark.parametrize("greedy", ["load", "kernels"])
def test_peak_memory_is_that_of_loading_and_running_not_of_looking_at_kernels(fake: LatencyJob, greedy: str) -> None:
    found = LatencyAnswer.read(process.run(replace(fake, file=greedy), "fake"))
    assert found.kernels == {greedy: 25_000_000}, "it was asked, and the memory was taken"
    assert (found.peak_bytes - found.imported_bytes > 100e6) is (greedy == "load")


def test_every_workload_is_warmed_up_before_it_is_timed(fake: LatencyJob) -> None:
    found = LatencyAnswer.read(process.run(fake, "fake"))
    for timing in found.workloads.values():
        calls_so_far = int(np.max([np.max(logits) for logits in timing.logits]))
        assert calls_so_far - len(timing.whole_ns) >= measure.WARM_UP_CALLS


def paused(fake: LatencyJob, pauses_s: dict[str, float]) -> dict[str, bool]:
    """Return of each workload whether the process that timed it idled that long before every call, off the clock."""
    found = LatencyAnswer.read(process.run(replace(fake, pauses_s=pauses_s), "fake"))
    idle_s = {name: timing.noise.wall_s - sum(timing.whole_ns) * 1e-9 for name, timing in found.workloads.items()}
    return {
        name: timing.pause_s == pauses_s[name] and idle_s[name] >= PAUSE_S * len(timing.whole_ns)
        for name, timing in found.workloads.items()
    }


PAUSE_S = 0.01


def test_each_workload_has_its_own_pause(fake: LatencyJob) -> None:
    for spaced in WORKLOADS:
        assert paused(fake, {name: PAUSE_S * (name == spaced) for name in WORKLOADS}) == {
            name: name == spaced for name in WORKLOADS
        }


Do = Callable[[Any], Any]


def threads_given(do: Do, asked: LatencyJob | AnswersJob) -> set[int]:
    """Return with how many threads a job loads its model."""
    given: list[int] = []

    def load(root: Path, file: str, *, threads: int) -> Any:
        given.append(threads)
        return onnxruntime.load(root, file, threads=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "import_module", lambda _name: SimpleNamespace(load=load))
        do(asked)
    return set(given)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_model_is_loaded_with_as_many_threads_as_the_job_says(artifact: Path, threads: int) -> None:
    timed = replace(job(artifact), threads=threads)
    answered = AnswersJob("onnxruntime", str(artifact), "onnx/model.onnx", threads, {}, batch_size=8, splits={})
    dos: tuple[tuple[Do, Any], ...] = ((worker.latency, timed), (worker.answers, answered))
    for do, asked in dos:
        assert threads_given(do, asked) == {threads}
        assert threads_given(lambda asked, do=do: do(replace(asked, threads=7)), asked) != {threads}, "it can fail"


def imported_by(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env=process.environment(1),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_the_measuring_process_imports_its_runtime_and_nothing_heavy() -> None:
    found = imported_by("import edgedistill.benchmark.worker, edgedistill.runtimes.onnxruntime")
    assert {"onnxruntime", "tokenizers", "numpy"} <= found
    assert not found & HEAVY
    assert imported_by("import edgedistill.results") & HEAVY == {"pydantic"}, "the check can fail"


def test_a_fresh_process_runs_this_package_and_reports_nothing_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    found = process.environment(2)
    assert found["PYTHONPATH"].split(os.pathsep) == [str(PACKAGE.parent), "elsewhere"]
    assert (found["ORT_DISABLE_TELEMETRY"], found["HF_HUB_OFFLINE"]) == ("1", "1")


@pytest.mark.parametrize(("threads", "parallel"), [(1, "false"), (2, "true"), (5, "true")])
def test_a_fresh_process_has_as_many_threads_as_its_job_says(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, threads: int, parallel: str
) -> None:
    for name in THREADS:
        monkeypatch.setenv(name, "7")
    says_where_it_is = "import json, os; print(json.dumps(dict(os.environ)))"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", says_where_it_is))
    found = process.run(replace(job(artifact), threads=threads), "tiny")
    assert [found[name] for name in THREADS] == [str(threads)] * 2
    assert found["TOKENIZERS_PARALLELISM"] == parallel


def test_a_process_that_fails_is_an_error_with_the_end_of_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="the student: the process that measures latency ended with code 1:") as caught:
        process.run(job(tmp_path), "the student")
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + process.LAST_LINES
    assert str(tmp_path) in lines[-1], "the runtime's own reason comes last"


def test_a_process_that_takes_too_long_is_ended(artifact: Path) -> None:
    started = time.monotonic()
    with pytest.raises(StageError, match=r"tiny: .* did not end within 0\.2 s"):
        process.run(job(artifact), "tiny", timeout_s=0.2)
    assert time.monotonic() - started < 5


def test_a_process_that_is_killed_says_by_what(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends_itself = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", ends_itself))
    with pytest.raises(StageError, match=r"was ended by SIGKILL; is there enough memory\?"):
        process.run(job(artifact), "tiny")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_measuring_process_dies_with_the_build_that_asked(artifact: Path) -> None:
    endless = replace(job(artifact), seconds=60.0)
    build = f"from edgedistill.benchmark import jobs, process; process.run(jobs.{endless!r}, 'tiny')"
    with subprocess.Popen([sys.executable, "-P", "-c", build], env=process.environment(1)) as building:
        worker = wait_for(lambda: next(iter(psutil.Process(building.pid).children()), None))
        wait_for(lambda: "onnxruntime" in Path(f"/proc/{worker.pid}/maps").read_text(encoding="utf-8"))
        building.kill()
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def wait_for(found: Callable[[], Any]) -> Any:
    """Return what `found` gives as soon as that is something."""
    deadline = time.monotonic() + 10
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def test_answers_do_not_depend_on_the_process_that_gives_them(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text(json.dumps(TEXTS), encoding="utf-8")
    asked = AnswersJob(
        "onnxruntime", str(artifact), "onnx/model_quantized.onnx", 1, WORKLOADS, batch_size=8,
        splits={str(tmp_path / "test.json"): str(tmp_path / "test.npy")},
    )  # fmt: skip
    said = process.run(asked, "tiny")
    first = np.load(tmp_path / "test.npy")
    timed = LatencyAnswer.read(process.run(job(artifact, "onnx/model_quantized.onnx"), "tiny"))
    again = process.run(asked, "tiny")
    assert said == again
    assert np.array_equal(first, np.load(tmp_path / "test.npy"))
    assert first.shape == (32, 2)
    assert said["labels"] == ["negative", "positive"]
    for name, batches in said["logits"].items():
        assert np.array_equal(np.array(batches), np.array(timed.workloads[name].logits))
