"""A whole recipe small enough for a test: a teacher of two layers, a few hundred texts, a static student."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tiny_artifact import LABELS, VOCAB, WORDS, write_checkpoint, write_tokenizer

NEGATIVE, POSITIVE, NEUTRAL = WORDS[8:16], WORDS[16:24], WORDS[24:54]


def rows(count: int, seed: int) -> list[dict[str, str]]:
    """Return different texts, one label after the other: each has more words of its own label than of the other."""
    random = np.random.default_rng(seed)
    made = []
    for i in range(count):
        label = LABELS[i % 2]
        own, other = (POSITIVE, NEGATIVE) if label == "positive" else (NEGATIVE, POSITIVE)
        words = [
            *random.choice(own, size=random.integers(3, 7)),
            random.choice(other),
            *random.choice(NEUTRAL, size=random.integers(1, 12)),
        ]
        random.shuffle(words)
        made.append({"text": " ".join(words), "label": label})
    return made


def rows_of_several(count: int, seed: int) -> list[dict[str, Any]]:
    """Return different texts with words of none, one or both of the labels, and the list of these labels."""
    random = np.random.default_rng(seed)
    made = []
    for i in range(count):
        held = [label for place, label in enumerate(LABELS) if i >> place & 1]
        words = [*random.choice(NEUTRAL, size=random.integers(4, 12))]
        for label in held:
            words += [*random.choice(POSITIVE if label == "positive" else NEGATIVE, size=random.integers(3, 6))]
        random.shuffle(words)
        made.append({"text": " ".join(words), "label": held})
    return made


def write_rows(file: Path, made: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as jsonl."""
    file.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")


RECIPE = """\
name: tiny
licence: MIT
task: {kind: text_classification, labels: [negative, positive], max_length: 32}
teacher:
  kind: transformers
  licence: Apache-2.0
  model: {path: teacher}
  fit: {method: full, epochs: 3, batch_size: 8, learning_rate: 1.0e-3}
data:
  train: {source: jsonl, file: train.jsonl}
  challenge:
    other: {source: jsonl, file: other.jsonl}
student: {kind: static, dimensions: 16, hidden_size: 8}
distill: {epochs: 6, batch_size: 8, learning_rate: 1.0e-2}
quantize: [{method: dynamic_int8, min_weights: 1}]
benchmark: {rounds: 3, calls: 5, seconds: 0.01}
"""

HEADED_RECIPE = """\
name: headed
licence: MIT
task: {kind: text_classification, max_length: 32}
teacher: {kind: transformers, licence: MIT, model: {path: headed}}
data:
  train: {source: text, file: train.txt}
  validation: {source: jsonl, file: validation.jsonl}
  test: {source: jsonl, file: test.jsonl}
  challenge:
    other: {source: jsonl, file: other.jsonl}
student: {kind: layers, layers: 1}
distill: {epochs: 2, batch_size: 8, learning_rate: 1.0e-3, losses: [{loss: forward_kl}]}
quantize: [{method: dynamic_int8, min_weights: 1}]
benchmark: {rounds: 3, calls: 5, seconds: 0.01}
"""

SEARCH_RECIPE = """\
name: found
licence: MIT
task: {kind: sentence_embedding, max_length: 32, pooling: mean}
teacher: {kind: transformers, licence: MIT, model: {path: teacher}}
data:
  train: {source: jsonl, file: train.jsonl}
  test: {source: retrieval, queries: queries.jsonl, documents: documents.jsonl}
  challenge:
    texts: {source: text, file: texts.txt}
student: {kind: layers, layers: 1}
distill: {epochs: 3, batch_size: 8, learning_rate: 1.0e-3, seeds: 2}
quantize: [{method: dynamic_int8, min_weights: 1, sensitivity: true, gate: null}]
benchmark: {rounds: 3, calls: 5, seconds: 0.01}
"""


SEVERAL_RECIPE = """\
name: several
licence: MIT
task: {kind: multi_label_classification, labels: [negative, positive], max_length: 32}
teacher:
  kind: transformers
  licence: Apache-2.0
  model: {path: teacher}
  fit: {method: full, epochs: 4, batch_size: 8, learning_rate: 1.0e-3}
data:
  train: {source: jsonl, file: train.jsonl}
  challenge:
    other: {source: csv, file: other.csv, separator: "|"}
student: {kind: static, dimensions: 16, hidden_size: 8}
distill: {epochs: 8, batch_size: 8, learning_rate: 1.0e-2}
quantize: [{method: dynamic_int8, min_weights: 1}]
benchmark: {rounds: 3, calls: 5, seconds: 0.01}
"""


def write_encoder(folder: Path) -> None:
    """Write a checkpoint without a classification head, which learns the labels of `rows` in three epochs."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
        initializer_range=0.05,
    )
    BertModel(config).save_pretrained(folder)
    write_tokenizer(folder)


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    """Write teacher, data and recipe into `folder`; return the recipe's file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_encoder(folder / "teacher")
    write_rows(folder / "train.jsonl", rows(400, seed=1))
    write_rows(folder / "other.jsonl", rows(80, seed=2))
    file = folder / "tiny.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def write_headed_recipe(folder: Path, text: str = HEADED_RECIPE) -> Path:
    """Write a recipe whose teacher knows its labels, and whose training texts have none; return the recipe's file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_checkpoint(folder / "headed")
    (folder / "train.txt").write_text("".join(f"{row['text']}\n" for row in rows(200, seed=3)), encoding="utf-8")
    write_rows(folder / "validation.jsonl", rows(40, seed=4))
    write_rows(folder / "test.jsonl", rows(80, seed=5))
    write_rows(folder / "other.jsonl", rows(80, seed=2))
    file = folder / "headed.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def write_search_recipe(folder: Path, text: str = SEARCH_RECIPE) -> Path:
    """Write a recipe for sentence vectors, judged by queries: documents with words left out; return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_encoder(folder / "teacher")
    write_rows(folder / "train.jsonl", rows(240, seed=6))
    documents = [row["text"] for row in rows(60, seed=7)]
    made = [{"id": f"d{i}", "text": text} for i, text in enumerate(documents)]
    asked = [{"id": f"d{i}", "text": " ".join(text.split()[::2])} for i, text in enumerate(documents[:50])]
    for name, lines in (("documents", made), ("queries", asked)):
        write_rows(folder / f"{name}.jsonl", lines)
    (folder / "texts.txt").write_text("".join(f"{row['text']}\n" for row in rows(50, seed=8)), encoding="utf-8")
    file = folder / "found.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def write_recipe_of_several(folder: Path, text: str = SEVERAL_RECIPE) -> Path:
    """Write a recipe whose texts have none, one or both of two labels, one set of them as csv; return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_encoder(folder / "teacher")
    write_rows(folder / "train.jsonl", rows_of_several(400, seed=11))
    others = rows_of_several(80, seed=12)
    lines = ["text,label", *(f"{row['text']},{' | '.join(row['label'])}" for row in others)]
    (folder / "other.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    file = folder / "several.yaml"
    file.write_text(text, encoding="utf-8")
    return file
