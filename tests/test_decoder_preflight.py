"""Checks before a decoder is trained: each must be able to fail."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_following import Table, following, rows
from tiny_decoders import documents, write_tokenizer

from edgedistill.distill.decoder import preflight
from edgedistill.errors import StageError, TrainingError
from edgedistill.models.load import load_tokenizer
from edgedistill.training.decoder_rows import rows_of_texts, write_rows

PARTS = ("token_ids", "offsets", "counts", "texts")
TASK = SimpleNamespace(max_length=16, conversations=False)
OPTIONS: Any = SimpleNamespace(seed=0, learning_rate=0.1)


def test_a_student_that_reads_other_ids_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    tokenizer, texts = load_tokenizer(tmp_path), documents(6)
    monkeypatch.setattr(preflight, "texts_of", lambda *_: texts)
    files = {part: tmp_path / f"{part}.npy" for part in PARTS}
    read = write_rows(rows_of_texts(tokenizer, texts, 16, conversations=False), files, 0, None)
    corpus: Any = None
    assert preflight._token_ids(tokenizer, TASK, corpus, read).value == 6
    moved = SimpleNamespace(ids=np.asarray(read.tokens.ids) + 1, offsets=read.tokens.offsets)
    other: Any = SimpleNamespace(texts=read.texts, tokens=moved)
    with pytest.raises(StageError, match="read row 0 of train as different token ids"):
        preflight._token_ids(tokenizer, TASK, corpus, other)


def test_a_student_that_no_gradient_reaches_is_seen() -> None:
    some, sound, stuck = rows([4, 9, 2, 6]), Table(1), Table(1)
    objective = following(some, cross_entropy={})
    assert preflight._learns(sound, objective, some, OPTIONS).value < preflight.LEFT_OVER
    stuck.register_forward_hook(lambda _part, _given, said: said.detach() + 0 * said)
    with pytest.raises(TrainingError, match="few_rows_overfit"):
        preflight._learns(stuck, objective, some, OPTIONS)
