"""What the harness itself costs: the benchmark's worker against a bare loop, a build with nothing to do, `--help`.

Run: python benchmarks/overhead.py [--rounds 7]      (needs a finished quickstart)

Worker and bare loop run in fresh processes, interleaved, over the same texts of the same artifact; each reports its
median call, tokenizer included, and the ratio of each round is what counts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from edgedistill.benchmark import process
from edgedistill.benchmark.jobs import LatencyAnswer, LatencyJob

ROOT = Path(__file__).resolve().parent.parent
BARE = """
import json, sys, time
from pathlib import Path
import numpy as np, onnxruntime, tokenizers
root, texts, calls = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(str(root / "onnx/model_quantized.onnx"), options)
tokenizer = tokenizers.Tokenizer.from_file(str(root / "tokenizer.json"))
def call(text):
    read = tokenizer.encode_batch_fast([text])
    ids = np.array([one.ids for one in read], dtype=np.int64)
    mask = np.array([one.attention_mask for one in read], dtype=np.int64)
    return session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
for i in range(2000):
    call(texts[i % len(texts)])
times = []
for i in range(calls):
    start = time.perf_counter_ns()
    call(texts[i % len(texts)])
    times.append(time.perf_counter_ns() - start)
print(sorted(times)[len(times) // 2])
"""


def worker_ns(artifact: Path, texts: list[str], calls: int) -> float:
    """Return the median call as the benchmark's worker measures it."""
    job = LatencyJob("onnxruntime", str(artifact), "onnx/model_quantized.onnx", 1, {"one": [[text] for text in texts]},
                     {"one": 0.0}, calls, 0.5, False)  # fmt: skip
    answer = LatencyAnswer.read(process.run(job, "the artifact"))
    return statistics.median(answer.workloads["one"].whole_ns)


def bare_ns(artifact: Path, texts: list[str], calls: int) -> float:
    """Return the median call of a loop that does nothing else."""
    command = [sys.executable, "-c", BARE, str(artifact), json.dumps(texts), str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=process.environment(1))
    return float(done.stdout)


def wall_s(*command: str) -> float:
    """Return the seconds of one command."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "edgedistill", *command], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


def spread(values: list[float], unit: str = "") -> str:
    """Return median and range."""
    return f"{statistics.median(values):.3g}{unit} ({min(values):.3g} to {max(values):.3g})"


def main() -> int:
    """Measure and print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=7)
    rounds = range(arguments.parse_args().rounds)
    artifact = next((ROOT / "runs/quickstart/artifacts").glob("quickstart-*-onnx"))
    texts = [json.loads(line)["text"] for line in (ROOT / "data/vader/movie.jsonl").open(encoding="utf-8")][:32]
    pairs = [(worker_ns(artifact, texts, 3200), bare_ns(artifact, texts, 3200)) for _ in rounds]
    print(f"worker {spread([worker / 1e3 for worker, _ in pairs], ' us')}, bare loop "
          f"{spread([bare / 1e3 for _, bare in pairs], ' us')}, ratio {spread([w / b for w, b in pairs])}")  # fmt: skip
    print(f"build with nothing to do: {spread([wall_s('build', 'recipes/quickstart.yaml') for _ in rounds], ' s')}")
    print(f"--help: {spread([wall_s('--help') for _ in rounds], ' s')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
