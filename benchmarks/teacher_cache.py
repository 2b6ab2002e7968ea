"""What it saves to run the teacher once: seconds per epoch from the cache, against an epoch with the live teacher.

Run: python benchmarks/teacher_cache.py [RUN_FOLDER] [--rows 2000] [--rounds 3]   (needs a finished quickstart)

The two are interleaved, A B A B; the ratio of each round is what counts. Both take the same optimizer steps on the
same batches; the live epoch asks the teacher for the logits of each batch, as a loop without a cache does.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from edgedistill.models.load import load_model
from edgedistill.models.students import layers
from edgedistill.training.rows import TokenRows, shuffled_batches
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Signals, Student, Teacher

Teach = Callable[[np.ndarray, torch.Tensor, torch.Tensor], torch.Tensor]


def newest(run: Path, stage: str) -> Path:
    """Return the finished folder of a stage."""
    return max(run.glob(f"stages/{stage}-*/result.json"), key=lambda file: file.stat().st_mtime).parent


def epoch_s(student: Any, rows: TokenRows, count: int, teach: Teach) -> float:
    """Return the seconds of one epoch over the first `count` rows."""
    student = copy.deepcopy(student).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, fused=True)
    began = time.perf_counter()
    for batch in shuffled_batches(rows.lengths[:count], 32, seed=0, epoch=0):
        ids, mask = (torch.from_numpy(array) for array in rows.padded(batch))
        student_logits, teacher_logits = student(ids, mask), teach(batch, ids, mask)
        loss = F.kl_div(
            F.log_softmax(student_logits, -1), F.log_softmax(teacher_logits, -1), log_target=True, reduction="batchmean"
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - began


def main() -> int:
    """Measure and print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("run", type=Path, nargs="?", default=Path("runs/quickstart"))
    arguments.add_argument("--rows", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=3)
    asked = arguments.parse_args()
    signals = Signals.load(newest(asked.run, "signals"))
    taught_by = Teacher.load(newest(asked.run, "teacher"))
    static = Student.load(newest(asked.run, "student"))
    split = SplitSignals(signals, "train")
    teacher = load_model(taught_by.path(taught_by.checkpoint)).eval()

    def cached(batch: np.ndarray, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(split.outputs[batch]))

    def live(batch: np.ndarray, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = teacher(ids, mask)
        return logits.clone()

    two_layers = layers.Options(kind="layers", layers=2)
    students = {
        "static": load_model(static.path(static.checkpoint)),
        "layers, 2 of 6": layers.make(two_layers, taught_by.path(taught_by.checkpoint), taught_by.labels, asked.run),
    }
    print(f"{asked.rows} rows, batch 32, {torch.get_num_threads()} threads; teacher once over all {signals.rows} rows:"
          f" {signals.seconds:.0f} s")  # fmt: skip
    for name, student in students.items():
        pairs = [
            (epoch_s(student, split.rows, asked.rows, cached), epoch_s(student, split.rows, asked.rows, live))
            for _ in range(asked.rounds)
        ]
        ratios = sorted(slow / quick for quick, slow in pairs)
        quick, slow = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"{name}: {quick:.2f} s an epoch from the cache, {slow:.2f} s with the live teacher; "
            f"ratio {statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
