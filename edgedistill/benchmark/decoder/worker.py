"""A fresh process that runs one language model: it reads a job, writes one line, and ends.

While it measures speed and memory it imports one runtime, numpy and the standard library, as an app would have them.
"""

import json
import sys
import time
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedistill.benchmark import memory, noise
from edgedistill.benchmark.decoder import measure
from edgedistill.benchmark.decoder.jobs import Load, Passes, PositionsJob, SpeedAnswer, SpeedJob, SplitFiles, Tops
from edgedistill.benchmark.worker import die_with_parent
from edgedistill.runtimes._decoder import LoadedDecoder

if TYPE_CHECKING:
    from edgedistill.training.positions import Answer


def speed(job: SpeedJob) -> SpeedAnswer:
    """Load, warm up and time the model; the peak is read before anything else is asked of it."""
    import_module(f"edgedistill.runtimes.{job.load.runtime}").versions()  # imports its library
    imported_bytes, _ = memory.peak()
    begin = time.perf_counter()
    decoder = _load(job.load)
    load_s = time.perf_counter() - begin
    passes = _passes(job.load, job.passes)
    measure.warm_up(decoder, passes)
    before = noise.read()
    samples = measure.measure(decoder, passes, job.calls, job.seconds)
    counted = noise.read().since(before)
    peak_bytes, source = memory.peak()
    return SpeedAnswer(
        load_s=load_s,
        imported_bytes=imported_bytes,
        peak_bytes=peak_bytes,
        memory_source=source,
        threads=decoder.threads,
        kv_cache_bytes=decoder.kv_cache_bytes(len(job.passes.rows[0])),
        encode_ns=samples.encode_ns.tolist(),
        prefill_ns=samples.prefill_ns.tolist(),
        step_ns=samples.step_ns.tolist(),
        tops=samples.tops,
        noise=counted,
    )


def positions(job: PositionsJob) -> Tops:
    """Write what the model says at every position of every split; return what it says of the timed rows."""
    decoder = _load(job.load)
    for files in job.splits.values():
        _write_positions(_answering(decoder, job.load), files, job.vocabulary)
    return measure.answer(decoder, _passes(job.load, job.passes))


def _answering(decoder: LoadedDecoder, load: Load) -> "Answer":
    """Return what asks a decoder in the ids of the splits."""
    if load.folding is None:
        return decoder.logits
    from edgedistill.training.folding import read_folding

    kept, first = map(Path, load.folding)
    return read_folding(kept, first).answer(decoder.logits)


def _passes(load: Load, passes: Passes) -> Passes:
    """Return what is timed, in the ids of the model itself."""
    if load.folding is None:
        return passes
    kept = np.load(load.folding[0])
    return replace(passes, rows=[kept[row].tolist() for row in passes.rows])


def _write_positions(answer: "Answer", files: SplitFiles, vocabulary: int) -> None:
    from edgedistill.training.counted_rows import mapped
    from edgedistill.training.positions import positions_of

    rows = mapped(Path(files.token_ids), Path(files.offsets), Path(files.counts))
    teacher, student = (np.load(file, mmap_mode="r") if file else None for file in (files.teacher, files.student))
    np.save(files.positions, positions_of(answer, rows, vocabulary, teacher=teacher, student=student))


def _load(load: Load) -> LoadedDecoder:
    runtime = import_module(f"edgedistill.runtimes.{load.runtime}")
    decoder: LoadedDecoder = runtime.load(
        Path(load.root), load.file, threads=load.threads, context_tokens=load.context_tokens
    )
    return decoder


def main() -> None:
    """Do the job on standard input."""
    die_with_parent()
    job = json.load(sys.stdin)
    kind = job.pop("kind")
    answer = speed(SpeedJob.read(job)) if kind == SpeedJob.KIND else positions(PositionsJob.read(job))
    sys.stdout.write(f"\n{json.dumps(asdict(answer))}\n")


if __name__ == "__main__":
    main()
