"""Memory and time of static calibration from ten thousand to a million rows.

Run: python benchmarks/calibration_memory.py [--rows 10000 100000 1000000]      (needs nothing; Linux)

Rows of 4 to 12 random tokens are written to disk in pieces and memory-mapped; the model is a BERT of one narrow layer
with random weights. Each number of rows, and each way to calibrate, has a fresh process.

Peak memory is VmHWM of that process at its end. It counts pages of memory-mapped files, which the system takes back
when it needs them; the anonymous part, which it cannot take back, is sampled beside it. What only loading the model
and the libraries takes is the row `nothing`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

VOCAB, HIDDEN = 1000, 32
FEWEST_TOKENS, MOST_TOKENS = 4, 12
ROWS_AT_ONCE = 50_000
EVERY_S = 0.02
WAYS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "min_max": {"method": "static_int8", "ranges": "min_max"},
    "percentile, smoothing, gptq": {
        "method": "static_int8", "ranges": "percentile", "smoothing": 0.5, "rounding": "gptq",
    },
}  # fmt: skip


def write_rows(folder: Path, count: int) -> None:
    """Write ids.npy and offsets.npy of random rows, a piece at a time."""
    random = np.random.default_rng(0)
    folder.mkdir()
    offsets = np.lib.format.open_memmap(folder / "offsets.npy", mode="w+", dtype=np.int64, shape=(count + 1,))
    lengths = random.integers(FEWEST_TOKENS, MOST_TOKENS + 1, size=count)
    offsets[1:] = lengths.cumsum()
    ids = np.lib.format.open_memmap(folder / "ids.npy", mode="w+", dtype=np.int32, shape=(int(offsets[-1]),))
    for start in range(0, len(ids), ROWS_AT_ONCE):
        piece = ids[start : start + ROWS_AT_ONCE]
        piece[:] = random.integers(1, VOCAB, size=len(piece))


def calibrate(folder: Path, way: str) -> None:
    """Decide about every layer of the model; print wall seconds, CPU seconds and peak memory in bytes."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from edgedistill import registry
    from edgedistill.benchmark import memory
    from edgedistill.models.classifier import TransformerClassifier
    from edgedistill.training.rows import mapped

    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = {"hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 2 * HIDDEN}
    model = TransformerClassifier(BertForSequenceClassification(BertConfig(vocab_size=VOCAB, **shape))).eval()
    rows = mapped(folder / "ids.npy", folder / "offsets.npy", 0)
    began, cpu_began = time.perf_counter(), time.process_time()
    if WAYS[way]:
        module = registry.load("edgedistill.quantize.methods", WAYS[way]["method"])
        assert dict(module.quantize(model, module.Options(min_weights=1, cpus=("x86_64_vnni",), **WAYS[way]), rows))
    print(time.perf_counter() - began, time.process_time() - cpu_began, memory.peak()[0])


def anonymous_bytes(pid: int) -> int:
    """Return what a process holds that belongs to no file; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:")), 0)


def measured(folder: Path, way: str) -> tuple[float, float, int, int]:
    """Calibrate in a fresh process; return wall and CPU seconds, peak bytes, and the peak of what is in no file."""
    command = [sys.executable, __file__, "--calibrate", str(folder), way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        anonymous = 0
        while process.poll() is None:
            anonymous = max(anonymous, anonymous_bytes(process.pid))
            time.sleep(EVERY_S)
        assert process.stdout is not None
        wall, cpu, peak = process.stdout.read().split()
    return float(wall), float(cpu), int(peak), anonymous


def main() -> int:
    """Measure every way at every number of rows, and print a table with growth from the smallest."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    arguments.add_argument("--calibrate", nargs=2, help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.calibrate:
        calibrate(Path(asked.calibrate[0]), asked.calibrate[1])
        return 0
    print("| calibration | rows | seconds | CPU seconds | times as long | peak, VmHWM | anonymous | times as much |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for count in asked.rows:
            write_rows(Path(scratch) / str(count), count)
        for way in WAYS:
            found = {count: measured(Path(scratch) / str(count), way) for count in asked.rows}
            _, cpu_first, peak_first, anonymous_first = found[asked.rows[0]]
            for count, (wall, cpu, peak, anonymous) in found.items():
                print(
                    f"| {way} | {count:,} | {wall:.1f} | {cpu:.1f} | {cpu / max(cpu_first, 1e-9):.1f} "
                    f"| {peak / 1e6:.0f} MB | {anonymous / 1e6:.0f} MB "
                    f"| {peak / peak_first:.2f}, {anonymous / anonymous_first:.2f} |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
