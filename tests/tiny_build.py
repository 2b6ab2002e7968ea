"""A whole recipe small enough for a test: a teacher of two layers, a few hundred texts, a static student."""

import json
import shutil
from pathlib import Path

import numpy as np
from tiny_artifact import WORDS, write_checkpoint

GOOD, BAD = WORDS[8:40], WORDS[40:72]


def rows(count: int, seed: int) -> list[dict[str, str]]:
    """Return different texts whose label is the kind of words that most of them are made of."""
    random = np.random.default_rng(seed)
    made = []
    for i in range(count):
        positive = bool(i % 2)
        own, other = (GOOD, BAD) if positive else (BAD, GOOD)
        words = [*random.choice(own, size=random.integers(4, 12)), *random.choice(other, size=random.integers(1, 4))]
        random.shuffle(words)
        made.append({"text": " ".join(words), "label": "positive" if positive else "negative"})
    return made


def write_rows(file: Path, made: list[dict[str, str]]) -> None:
    """Write rows as jsonl."""
    file.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")


RECIPE = """\
name: tiny
licence: MIT
task: {kind: text_classification, labels: [negative, positive], max_length: 32}
teacher:
  kind: transformers
  licence: MIT
  model: {path: teacher}
  fit: {method: full, epochs: 2, learning_rate: 1.0e-3}
data:
  train: {source: jsonl, file: train.jsonl}
  challenge:
    other: {source: jsonl, file: other.jsonl}
student: {kind: static, dimensions: 16, hidden_size: 8}
distill: {epochs: 4, learning_rate: 1.0e-2}
benchmark: {rounds: 3, calls: 5, seconds: 0.01}
"""


def write_encoder(folder: Path) -> None:
    """Write a checkpoint that has no classification head."""
    from transformers import BertModel

    write_checkpoint(folder)
    encoder = BertModel.from_pretrained(folder, local_files_only=True)
    shutil.rmtree(folder)
    write_checkpoint(folder)
    encoder.save_pretrained(folder)


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    """Write teacher, data and recipe into `folder`; return the recipe's file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_encoder(folder / "teacher")
    write_rows(folder / "train.jsonl", rows(400, seed=1))
    write_rows(folder / "other.jsonl", rows(80, seed=2))
    file = folder / "tiny.yaml"
    file.write_text(text, encoding="utf-8")
    return file
