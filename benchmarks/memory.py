"""Memory and time of `edgedistill distill` from ten thousand to a million rows, stage by stage.

Run: python benchmarks/memory.py [--rows 10000 100000 1000000] [--limit 3600]      (needs nothing; Linux)

Rows of about 100 characters come from a seeded model of words: one in fifty repeats an earlier row, exactly or but
for a word. The teacher is a BERT of two narrow layers, fitted for one epoch, and the student a small static one: the
work on rows is real, the models are as small as they can be, so that what grows with the rows is seen. Each size is
distilled by the command itself, in a fresh process.

Seconds are those of the clock and those of the processors; the latter change less where others use the machine.
Peak memory is VmHWM of that process, set back when a stage begins. It counts pages of memory-mapped files, which
the system takes back when it needs them; the anonymous part, which it cannot take back, is sampled beside it.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("corpus", "teacher", "signals", "tokens", "student", "controls")
EVERY_S = 0.02
WORDS, KNOWN, CLUES = 20_000, 4_000, 100  # of the language; of the tokenizer; words of each label
REPEATED = 0.02
ROWS_AT_ONCE = 10_000
RECIPE = """\
name: memory
licence: MIT
task: {kind: text_classification, labels: [negative, positive], max_length: 64}
teacher:
  kind: transformers
  licence: MIT
  model: {path: teacher}
  fit: {method: full, epochs: 1, batch_size: 256, learning_rate: 1.0e-3}
data:
  train: {source: jsonl, file: rows.jsonl}
student: {kind: static, dimensions: 32, hidden_size: 16}
distill: {epochs: 1, batch_size: 256, learning_rate: 1.0e-3}
"""


@dataclass
class Cost:
    """What one stage took."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    anonymous_bytes: int = 0


def words() -> np.ndarray:
    """Return the words of the language, the most frequent first."""
    random = np.random.default_rng(0)
    made: dict[str, None] = {}
    while len(made) < WORDS:
        made["".join(random.choice(list("aeiounrstlmdkpbgh"), size=random.integers(2, 9)))] = None
    return np.array(list(made))


def rows(count: int, language: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield texts of 5 to 30 words, frequent words often, with the label that a few of their words decide."""
    random = np.random.default_rng(1)
    often = 1 / np.arange(10, len(language) + 10)
    earlier = "the first of all texts"
    for start in range(0, count, ROWS_AT_ONCE):
        lengths = random.integers(5, 31, size=min(ROWS_AT_ONCE, count - start))
        ends = lengths.cumsum()
        drawn = random.choice(len(language), size=ends[-1], p=often / often.sum())
        for begin, end in itertools.pairwise([0, *ends]):
            label = int(random.integers(2))
            drawn[begin] = random.integers(CLUES) * 2 + label
            text = " ".join(language[drawn[begin:end]])
            if random.random() < REPEATED:
                text = earlier if random.random() < 0.5 else f"{earlier} {language[drawn[begin]]}"
            else:
                earlier = text
            yield text, ("negative", "positive")[label]


def write(folder: Path, count: int) -> Path:
    """Write rows, teacher and recipe into `folder`; return the recipe's file."""
    language = words()
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as out:
        for text, label in rows(count, language):
            out.write(json.dumps({"text": text, "label": label}) + "\n")
    write_teacher(folder / "teacher", [str(word) for word in language[:KNOWN]])
    (folder / "memory.yaml").write_text(RECIPE, encoding="utf-8")
    return folder / "memory.yaml"


def write_teacher(folder: Path, known: list[str]) -> None:
    """Write an encoder of two narrow layers, and a tokenizer of one id for each known word."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    vocab = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *known])}
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(vocab), max_position_embeddings=64, **shape)).save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    settings = {**names, "model_max_length": 64, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def distilled(recipe: Path, limit_s: float) -> tuple[dict[str, Cost], str]:
    """Distil in a fresh process, and return what each stage took, and how it ended."""
    out = recipe.parent / "runs"
    command = [sys.executable, "-m", "edgedistill", "distill", str(recipe), "--out", str(out)]
    costs = {stage: Cost() for stage in STAGES}
    began = time.monotonic()
    with (recipe.parent / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        current, cpu_before_s = None, 0.0
        while process.poll() is None and time.monotonic() - began < limit_s:
            if (running := running_stage(out / "memory" / "stages")) != current:
                current, cpu_before_s = running, cpu_s(process.pid)
                Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")  # sets VmHWM back
            if current is not None:
                note(process.pid, costs[current], cpu_before_s)
            time.sleep(EVERY_S)
        if process.poll() is None:
            process.kill()
            process.wait()
            return costs, f"stopped in {current} after {limit_s:.0f} s"
    for file in (out / "memory" / "stages").glob("*/took.json"):
        costs[stage_of(file.parent)].seconds = json.loads(file.read_text(encoding="utf-8"))["seconds"]
    return costs, "done" if process.returncode == 0 else (recipe.parent / "log").read_text(encoding="utf-8")[-500:]


def note(pid: int, cost: Cost, cpu_before_s: float) -> None:
    """Raise what the stage took to what the process has used by now."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
    cost.cpu_s = cpu_s(pid) - cpu_before_s
    if "VmHWM" in fields:  # a process that has just ended has no memory left to tell of
        cost.peak_bytes = max(cost.peak_bytes, int(fields["VmHWM"].split()[0]) * 1024)
        cost.anonymous_bytes = max(cost.anonymous_bytes, int(fields["RssAnon"].split()[0]) * 1024)


def cpu_s(pid: int) -> float:
    """Return the processor seconds that the process has used."""
    used = psutil.Process(pid).cpu_times()
    return used.user + used.system


def running_stage(stages: Path) -> str | None:
    """Return the stage that has begun and not ended."""
    running = [folder for folder in stages.glob("*/") if not (folder / "result.json").exists()]
    return stage_of(running[0]) if running else None


def stage_of(folder: Path) -> str:
    """Return the stage that a folder of a run belongs to."""
    return folder.name.rpartition("-")[0]


def table(found: dict[int, dict[str, Cost]]) -> str:
    """Return what each stage took by number of rows, and how it grows from size to size."""
    lines = ["rows      stage      seconds    cpu s   peak MB   anonymous MB"]
    for count, costs in found.items():
        for stage, cost in costs.items():
            peaks = f"{cost.peak_bytes / 1e6:>9.0f} {cost.anonymous_bytes / 1e6:>14.0f}"
            lines.append(f"{count:<9,} {stage:<9} {cost.seconds:>8.1f} {cost.cpu_s:>8.1f} {peaks}")
    for few, many in itertools.pairwise(found):
        lines += ["", f"{few:,} -> {many:,} rows (x{many / few:g})"]
        for stage in STAGES:
            less, more = found[few][stage], found[many][stage]
            peak = growth(less.peak_bytes, more.peak_bytes, many - few)
            anonymous = growth(less.anonymous_bytes, more.anonymous_bytes, many - few)
            times = (
                f"seconds x{more.seconds / max(less.seconds, 1e-9):.1f}, cpu x{more.cpu_s / max(less.cpu_s, 1e-9):.1f}"
            )
            lines.append(f"  {stage:<9} {times}, peak {peak}, anonymous {anonymous}")
    return "\n".join(lines)


def growth(less: int, more: int, rows: int) -> str:
    """Return how two numbers of bytes compare, as a ratio and for each further row."""
    return f"x{more / max(less, 1):.2f} ({(more - less) / rows:,.0f} bytes a row)"


def main() -> int:
    """Distil every size and print; return 0 when all ended."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    arguments.add_argument("--limit", type=float, default=3600, help="seconds for one size")
    asked = arguments.parse_args()
    found: dict[int, dict[str, Cost]] = {}
    ended = []
    for count in asked.rows:
        with tempfile.TemporaryDirectory() as name:
            found[count], end = distilled(write(Path(name), count), asked.limit)
        ended.append(end)
        print(f"{count:,} rows: {end}", flush=True)
    print(table(found))
    return 0 if set(ended) == {"done"} else 1


if __name__ == "__main__":
    sys.exit(main())
