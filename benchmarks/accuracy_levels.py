"""One int4 ONNX language model with its products at several accuracy levels, beside the student's GGUF files.

Run: python benchmarks/accuracy_levels.py RECIPE [--out runs] [--levels 0 1 4] [--rounds 5] [--calls 14]

The recipe's build is finished, with the formats gguf and onnx_genai. Its int4 folder is copied once for each level of
MatMulNBits (0 leaves it to the runtime, 1 multiplies with float32 activations, 4 with 8-bit ones); the codes are the
same. Everything is measured interleaved, each run in a fresh process; then each is asked at every position of the test
split, and held against the float student and against level 1, which rounds no activations.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md, accuracy_level of MatMulNBits
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from edgedistill import pipeline, progress
from edgedistill.benchmark.decoder.jobs import Passes
from edgedistill.benchmark.decoder.latency import decode_of, prefill_of, speedup
from edgedistill.benchmark.decoder.quality import collect, files_of
from edgedistill.benchmark.decoder.rounds import choose, measure_rounds
from edgedistill.benchmark.decoder.subjects import candidates
from edgedistill.benchmark.subjects import Candidate
from edgedistill.decoder_values import DecoderArtifact, DecoderSignals, DecoderStudent
from edgedistill.export.formats.onnx_genai import EXACT_LEVEL
from edgedistill.export.genai_builder import MODEL
from edgedistill.export.genai_graph import with_accuracy
from edgedistill.recipe_file import load
from edgedistill.run import Run
from edgedistill.values import Teacher

INT4 = "onnx_genai.onnx_int4"
SPLIT, THREADS = "test", 1
SURE = 1.0  # nats between the two likeliest tokens, from which on a flip is damage and no near tie


def at_levels(candidate: Candidate, levels: Sequence[int], folder: Path) -> Iterator[Candidate]:
    """Yield copies of a folder of onnxruntime-genai, whose products have one accuracy level each."""
    for level in levels:
        place = folder / f"level_{level}"
        shutil.copytree(candidate.root / candidate.file, place)
        with_accuracy(place, place / MODEL, level)
        name = f"onnx_genai.level_{level}"
        yield replace(candidate, name=name, title=f"int4, level {level}", root=folder, file=place.name)


def measured_files(stages: dict[str, Any], run: Run, levels: Sequence[int], folder: Path) -> Iterator[Candidate]:
    """Yield the int4 folder at each level, then what lies in the GGUF folder."""
    found = {
        name: DecoderArtifact.load(run.folder_of(f"export-{name}", stages[f"export-{name}"].needs))
        for name in ("onnx_genai", "gguf")
    }
    teacher = Teacher.load(run.folder_of("teacher", stages["teacher"].needs))
    for candidate in candidates(teacher, found, None):
        if candidate.name == INT4:
            yield from at_levels(candidate, levels, folder)
        elif candidate.name.startswith("gguf."):
            yield candidate


def agreement(positions: np.ndarray, other: np.ndarray) -> str:
    """Return the share of positions with the same likeliest token: of all, and where `other` is sure."""
    same, sure = positions["top"] == other["top"], other["margin"] >= SURE
    return f"{same.mean():.2%}, {same[sure].mean():.2%} where sure"


def table(
    files: Sequence[Candidate], rounds: Mapping[str, Any], passes: Passes, said: Mapping[str, np.ndarray],
    float_student: np.ndarray, fastest: str,
) -> Iterator[str]:  # fmt: skip
    """Yield the lines of the table.

    Args:
        files: what was measured.
        rounds: answers of each file's processes.
        passes: what they read.
        said: (positions,) of POSITION of each file.
        float_student: (positions,) of POSITION.
        fastest: the name of the file that all are compared with.
    """
    yield (
        f"| file | decode, tokens/s | {fastest} decodes so many times faster | prefill, tokens/s | "
        "KL from the float student, nats | same token as it | same token as level 1 |"
    )
    yield f"|{'---|' * 7}"
    for file in files:
        ratio = speedup(rounds[file.name], rounds[fastest]).decode
        cells = (
            file.title,
            f"{decode_of(rounds[file.name], passes, None).tokens_per_s:.1f}",
            f"{ratio.median:.3g} ({ratio.low:.3g} to {ratio.high:.3g})",
            f"{prefill_of(rounds[file.name], passes).tokens_per_s:.0f}",
            f"{float(said[file.name]['kl_student'].mean()):.3g}",
            agreement(said[file.name], float_student),
            agreement(said[file.name], said[f"onnx_genai.level_{EXACT_LEVEL}"]),
        )
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Print speed, and what the levels say differently."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("recipe", type=Path)
    arguments.add_argument("--out", type=Path, default=Path("runs"))
    arguments.add_argument("--levels", type=int, nargs="+", default=[0, 1, 4])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--calls", type=int, default=14)
    asked = arguments.parse_args()
    progress.show_on(Console(width=200))
    recipe, out = load(asked.recipe), asked.out.absolute()
    run = Run(out / recipe.name)
    stages = pipeline.stages(recipe, asked.recipe.absolute().parent, run)
    signals = DecoderSignals.load(run.folder_of("signals", stages["signals"].needs))
    student = DecoderStudent.load(run.folder_of("student", stages["student"].needs))
    ids = np.load(signals.path(signals.splits["test"].token_ids), mmap_mode="r")
    passes = choose(ids, recipe.benchmark.prompt_tokens, recipe.benchmark.decode_tokens)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = [*measured_files(stages, run, sorted({EXACT_LEVEL, *asked.levels}), folder)]
        rounds = measure_rounds(
            files, passes, threads=THREADS, rounds=asked.rounds, calls=asked.calls, seconds=0.3,
            folder=folder / "rounds",
        )  # fmt: skip
        working = folder / "answers"
        answers = collect(files, files_of(signals, student, [SPLIT]), passes, signals.vocabulary, THREADS, working)
    said = {name: one.positions[SPLIT] for name, one in answers.items()}
    float_student = np.load(student.path(student.evaluation.positions[SPLIT]))
    print(*table(files, rounds, passes, said, float_student, f"onnx_genai.level_{max(asked.levels)}"), sep="\n")
    print(f"\n{THREADS} thread, {asked.rounds} rounds of {asked.calls} passes, {len(float_student)} positions")


if __name__ == "__main__":
    main()
