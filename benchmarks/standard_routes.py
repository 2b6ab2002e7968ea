"""Our int8 file against those of the standard routes, from the same float student: latency, size, memory, quality.

Run: scripts/peer && python benchmarks/standard_routes.py [RUN_FOLDER] [--rounds 7]      (needs a finished build)

* onnxruntime: `quantize_dynamic` on the file that torch.onnx writes, as its documentation shows it, and per channel.
* optimum: export and `ORTQuantizer` of optimum-onnx, in its own environment, with the documentation's configuration
  for VNNI, and per channel.

Every file runs in the same runtime, interleaved, one fresh process for each file and round; quality is measured on all
held-out splits of the run, against the float student. A file that asks for token types gets zeros, made inside it.
Exits with 1 where a peer is faster, smaller, better or lighter beyond the measurement's own spread.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from edgedistill.benchmark import process
from edgedistill.benchmark.jobs import AnswersJob, LatencyAnswer, LatencyJob
from edgedistill.benchmark.workloads import choose
from edgedistill.corpus.read import read
from edgedistill.models.classifier import STATIC
from edgedistill.statistics import difference
from edgedistill.values import Artifact, Corpus, Metric, Student

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / ".venv-optimum/bin/python"
EXPORT = """
import sys
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
checkpoint, folder = sys.argv[1:]
ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True).save_pretrained(f"{folder}/float")
for name, per_channel in (("optimum", False), ("optimum_per_channel", True)):
    configuration = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=per_channel)
    quantizer = ORTQuantizer.from_pretrained(f"{folder}/float", file_name="model.onnx")
    quantizer.quantize(save_dir=f"{folder}/{name}", quantization_config=configuration)
"""
NOISE = 1.05  # a ratio within five percent is no difference on a shared machine


@dataclass
class Route:
    """One file, and what was measured of it."""

    name: str
    root: Path
    file: str
    short_ns: list[float] = field(default_factory=list)  # median of each round
    long_ns: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    logits: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Of the model file."""
        return (self.root / self.file).stat().st_size


def newest(run: Path, stage: str) -> Path:
    """Return the finished folder of a stage."""
    return max(run.glob(f"stages/{stage}-*/result.json"), key=lambda file: file.stat().st_mtime).parent


def beside(artifact: Path, file: Path, folder: Path) -> Path:
    """Return a folder with the artifact's tokenizer and config, and `file` as its model."""
    (folder / "onnx").mkdir(parents=True)
    for shared in artifact.glob("*.json"):
        shutil.copyfile(shared, folder / shared.name)
    model = onnx.load(file)
    if any(given.name == "token_type_ids" for given in model.graph.input):
        kept = [given for given in model.graph.input if given.name != "token_type_ids"]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.graph.node.insert(0, onnx.helper.make_node("Sub", ["input_ids", "input_ids"], ["token_type_ids"]))
    onnx.save(model, folder / "onnx/model.onnx")
    return folder


def peers(artifact: Path, checkpoint: Path, work: Path) -> list[Route]:
    """Make the peers' files."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    made = {}
    for name, per_channel in (("onnxruntime", False), ("onnxruntime_per_channel", True)):
        made[name] = work / f"{name}.onnx"
        quantize_dynamic(artifact / "onnx/model.onnx", made[name], per_channel=per_channel, weight_type=QuantType.QInt8)
    architectures = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["architectures"]
    if STATIC in architectures:
        print("optimum knows no static student, and would export a model of random weights: left out")
    else:
        subprocess.run([str(PEER), "-c", EXPORT, str(checkpoint), str(work)], check=True, capture_output=True)
        made |= {name: next((work / name).glob("*.onnx")) for name in ("optimum", "optimum_per_channel")}
    return [
        Route(name, beside(artifact, file, work / f"root_{name}"), "onnx/model.onnx") for name, file in made.items()
    ]


def measure(routes: list[Route], corpus: Corpus, rounds: int, work: Path) -> None:
    """Ask every route for its logits once, then time all of them in turn."""
    texts = {split: read(corpus, split).texts for split in corpus.evaluation_splits}
    lengths = np.array([len(text) for text in texts["test"]])
    rows = {workload.name: workload.batches for workload in choose(lengths) if workload.name.startswith("batch_1_")}
    batches = {
        name: [[texts["test"][row] for row in batch] for batch in rows[name]] for name in rows if "spaced" not in name
    }
    for split, written in texts.items():
        (work / f"{split}.json").write_text(json.dumps(written), encoding="utf-8")
    for route in routes:
        files = {str(work / f"{split}.json"): str(work / f"{route.name}_{split}.npy") for split in texts}
        process.run(AnswersJob("onnxruntime", str(route.root), route.file, 1, {}, 1, files), route.name)
        route.logits = {split: np.load(work / f"{route.name}_{split}.npy") for split in texts}
    job = {"pauses_s": dict.fromkeys(batches, 0.0), "calls": 64, "seconds": 1.0, "kernels": False}
    for _ in range(rounds):
        for route in routes:
            asked = LatencyJob("onnxruntime", str(route.root), route.file, 1, batches, **job)
            answer = LatencyAnswer.read(process.run(asked, route.name))
            route.short_ns.append(statistics.median(answer.workloads["batch_1_short"].whole_ns))
            route.long_ns.append(statistics.median(answer.workloads["batch_1_long"].whole_ns))
            route.peak_bytes.append(answer.peak_bytes)


def spread(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Return how many times our number theirs is: median, lowest and highest of the rounds."""
    ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def points(metric: Metric) -> str:
    """Return a difference of accuracies in points."""
    return f"{100 * metric.value:+.2f} ({100 * metric.low:+.2f} to {100 * metric.high:+.2f})"


def told(route: Route, ours: Route, student: Route, corpus: Corpus) -> list[str]:
    """Print a route's line, and return what it is better in than ours."""
    better = []
    columns = [f"{route.name:24} {route.size_bytes / 1e6:7.2f} MB"]
    for what, mine, other in (
        ("short", ours.short_ns, route.short_ns),
        ("long", ours.long_ns, route.long_ns),
        ("peak memory", ours.peak_bytes, route.peak_bytes),
    ):
        middle, low, high = spread([float(n) for n in mine], [float(n) for n in other])
        columns.append(f"{what} {middle:5.2f}x ({low:.2f} to {high:.2f})")
        if high < 1 / NOISE:
            better.append(f"{route.name} is ahead in {what}: {middle:.2f} of ours")
    if route.size_bytes * NOISE < ours.size_bytes:
        better.append(f"{route.name} is smaller: {route.size_bytes / 1e6:.2f} MB")
    gold = {split: read(corpus, split).labels for split in corpus.evaluation_splits}
    right = {r.name: {s: r.logits[s].argmax(1) == gold[s] for s in gold} for r in (route, ours, student)}
    agreement = {s: float((route.logits[s].argmax(1) == student.logits[s].argmax(1)).mean()) for s in gold}
    lost = difference(right[route.name]["test"], right[student.name]["test"])
    columns.append(f"test {points(lost)} points, agreement {100 * agreement['test']:.1f} %, "
                   f"worst set {100 * min(agreement.values()):.1f} %")  # fmt: skip
    against = difference(right[route.name]["test"], right[ours.name]["test"])
    if against.low > 0:
        better.append(f"{route.name} is better on test by {points(against)} points")
    print("  ".join(columns))
    return better


def main() -> int:
    """Make the peers' files, measure, print, and compare."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("run", type=Path, nargs="?", default=Path("runs/sentiment"))
    arguments.add_argument("--method", default="dynamic_int8")
    arguments.add_argument("--rounds", type=int, default=7)
    asked = arguments.parse_args()
    if not PEER.exists():
        sys.exit("error: the peer's environment is not there; run scripts/peer first")
    artifact = Artifact.load(newest(asked.run, "export-onnx"))
    student, corpus = Student.load(newest(asked.run, "student")), Corpus.load(newest(asked.run, "corpus"))
    root = artifact.path(artifact.root)
    files = {variant.name: str(variant.file) for variant in artifact.variants}
    with tempfile.TemporaryDirectory() as work:
        others = peers(root, student.path(student.checkpoint), Path(work))
        ours, floats = (
            Route(f"ours, {asked.method}", root, files[asked.method]),
            Route("float32", root, files["float32"]),
        )
        routes = [ours, floats, *others]
        measure(routes, corpus, asked.rounds, Path(work))
        print(f"ours: {statistics.median(ours.short_ns) / 1e6:.3f} ms for short texts, "
              f"{statistics.median(ours.long_ns) / 1e6:.3f} ms for long ones, one thread, "
              f"{statistics.median(ours.peak_bytes) / 1e6:.1f} MB")  # fmt: skip
        print("below: times and memory over ours; accuracy on test minus the float student's")
        better = [line for route in routes for line in told(route, ours, floats, corpus) if route in others]
    print("\n".join(better) or "no standard route is faster, smaller, lighter or better")
    return 1 if better else 0


if __name__ == "__main__":
    sys.exit(main())
