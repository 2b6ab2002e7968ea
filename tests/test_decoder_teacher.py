"""A language model that is fitted before it teaches: what it learns from, and what tells its best epoch."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_decoders import documents, write_decoder

from edgedistill.corpus import read
from edgedistill.models.decoder import load_decoder
from edgedistill.models.load import load_tokenizer
from edgedistill.teachers import _decoder
from edgedistill.training import loop

TEXTS = {"train": documents(12), "validation": documents(9, seed=1)}
TASK = SimpleNamespace(train_tokens=None, judged_positions=10_000, max_length=64, conversations=False)


def test_it_is_fitted_on_train_and_judged_on_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_decoder(tmp_path / "model")
    model, tokenizer = load_decoder(tmp_path / "model"), load_tokenizer(tmp_path / "model")
    given: list[Any] = []
    monkeypatch.setattr(loop, "train", lambda *all_of_it: given.extend(all_of_it))
    monkeypatch.setattr(read, "texts_of", lambda _, split: TEXTS[split])
    corpus: Any = None
    _decoder._fit(model, tokenizer, SimpleNamespace(method="full"), TASK, corpus, tmp_path)
    _, rows, objective, *_ = given
    assert rows.ids.tolist() == [token for text in TEXTS["train"] for token in tokenizer(text)["input_ids"]]
    losses = []
    for text in TEXTS["validation"]:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            said = model(ids, torch.ones_like(ids))[0].log_softmax(-1)
        losses += (-said[:-1].gather(1, ids[0, 1:, None])).flatten().tolist()
    assert objective.validate(model)[0] == pytest.approx(np.mean(losses), rel=1e-4)
