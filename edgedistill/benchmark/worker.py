"""A fresh process that runs one model: `python -m edgedistill.benchmark.worker` reads a job, writes one line, and ends.

It imports one runtime, numpy and the standard library, so that its memory is the memory of an app that runs this model
and nothing else.
"""

import ctypes
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.benchmark import measure, memory, noise
from edgedistill.benchmark.jobs import AnswersJob, LatencyAnswer, LatencyJob, Timing
from edgedistill.runtimes._model import LoadedModel, in_length_order


def latency(job: LatencyJob) -> LatencyAnswer:
    """Load, warm up and time the model; the peak is read before anything else is asked of it."""
    runtime = import_module(f"edgedistill.runtimes.{job.runtime}")
    imported_bytes, _ = memory.peak()
    begin = time.perf_counter()
    model = runtime.load(Path(job.root), job.file, threads=job.threads)
    load_s = time.perf_counter() - begin
    timed = {name: _timed(model, batches, job, job.pauses_s[name]) for name, batches in job.workloads.items()}
    peak_bytes, source = memory.peak()
    workloads = {name: _timing(model, job.workloads[name], *found, job.pauses_s[name]) for name, found in timed.items()}
    kernels = model.kernels() if job.kernels else {}
    return LatencyAnswer(load_s, imported_bytes, peak_bytes, source, workloads, kernels)


def _timed(
    model: LoadedModel, batches: Sequence[Sequence[str]], job: LatencyJob, pause_s: float
) -> tuple[measure.Samples, noise.Counters]:
    measure.warm_up(model, batches)
    before = noise.read()
    samples = measure.measure(model, batches, job.calls, job.seconds, pause_s)
    return samples, noise.read().since(before)


def _timing(
    model: LoadedModel,
    batches: Sequence[Sequence[str]],
    samples: measure.Samples,
    counted: noise.Counters,
    pause_s: float,
) -> Timing:
    lengths = np.concatenate([model.encode(texts)["attention_mask"].sum(axis=1) for texts in batches])
    return Timing(
        tokens=float(np.median(lengths)),
        whole_ns=samples.whole_ns.tolist(),
        model_ns=samples.model_ns.tolist(),
        logits=[logits.tolist() for logits in samples.logits],
        noise=counted,
        pause_s=pause_s,
    )


def answers(job: AnswersJob) -> dict[str, Any]:
    """Write the model's logits for every split; return its labels, and its logits for the workloads' very batches."""
    runtime = import_module(f"edgedistill.runtimes.{job.runtime}")
    model: LoadedModel = runtime.load(Path(job.root), job.file, threads=job.threads)
    for texts_file, logits_file in job.splits.items():
        texts = json.loads(Path(texts_file).read_text(encoding="utf-8"))
        np.save(logits_file, in_length_order(model, texts, job.batch_size))
    same_batches = {
        name: [model.run(model.encode(texts)).tolist() for texts in batches] for name, batches in job.workloads.items()
    }
    return {"labels": list(model.labels), "logits": same_batches}


def die_with_parent() -> None:
    """Let Linux end this process when the one that asked is killed; a next build must not find it still writing."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def main() -> None:
    """Do the job on standard input."""
    die_with_parent()
    job = json.load(sys.stdin)
    kind = job.pop("kind")
    answer = asdict(latency(LatencyJob(**job))) if kind == LatencyJob.KIND else answers(AnswersJob(**job))
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
