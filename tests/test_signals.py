"""The teacher's cached answers are its own, belong to the rows beside them, and survive being killed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_distill import make_signals, sealed
from tiny_training import model, token_rows

from edgedistill import resumable
from edgedistill.corpus.read import read
from edgedistill.distill import signals as module
from edgedistill.distill.signals import prove_row_hashes, prove_token_ids
from edgedistill.errors import StageError
from edgedistill.files import files_in, sha256_of, sha256_of_tree, write_atomic
from edgedistill.models.load import load_model, load_tokenizer
from edgedistill.training import predict
from edgedistill.training.evaluate import evaluate
from edgedistill.training.predict import resumable_outputs
from edgedistill.training.rows import TokenRows
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Corpus, Signals, Teacher

CPU = torch.device("cpu")


@pytest.fixture
def copied(signals: Signals, tmp_path: Path) -> Signals:
    """The same signals in a folder that a test may harm."""
    shutil.copytree(signals.folder, tmp_path / "signals")
    return sealed(tmp_path / "signals", signals)


def test_every_row_has_what_the_live_teacher_says_of_its_text(
    corpus: Corpus, teacher: Teacher, signals: Signals
) -> None:
    checkpoint = teacher.path(teacher.checkpoint)
    live, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    assert signals.splits.keys() == corpus.splits.keys()
    for name in corpus.splits:
        split, rows = SplitSignals(signals, name), read(corpus, name)
        assert len(split.rows) == len(split.outputs) == len(rows.texts) == signals.splits[name].rows
        assert split.labels.tolist() == rows.labels.tolist()
        for i in range(0, len(rows.texts), 7):
            encoded = tokenizer(rows.texts[i], truncation=True, return_tensors="pt")
            with torch.no_grad():
                said = live(encoded["input_ids"], encoded["attention_mask"])[0].numpy()
            assert np.allclose(split.outputs[i], said, atol=1e-4)
            assert (
                split.rows.ids[split.rows.offsets[i] : split.rows.offsets[i + 1]].tolist()
                == encoded["input_ids"][0].tolist()
            )
    logits = SplitSignals(signals, "test").outputs
    assert np.abs(logits - logits[::-1]).max() > 0.1, "answers that are all alike would prove nothing"


def test_the_teachers_metrics_are_of_labelled_rows(corpus: Corpus, signals: Signals) -> None:
    train = SplitSignals(signals, "train")
    known = train.labels >= 0
    assert 0 < known.sum() < len(known)
    assert signals.metrics["train"].n == known.sum()
    assert signals.metrics["train"].value == (train.outputs[known].argmax(axis=1) == train.labels[known]).mean()
    assert signals.rows == sum(split.rows for split in corpus.splits.values())


def test_the_cache_is_tied_to_tokenizer_and_teacher(teacher: Teacher, signals: Signals) -> None:
    assert signals.tokenizer_sha256 == sha256_of(teacher.path(teacher.checkpoint) / "tokenizer.json")
    assert signals.teacher_weights_sha256 == teacher.weights_sha256


def test_recording_killed_anywhere_and_resumed_ends_bit_identical(
    corpus: Corpus, teacher: Teacher, signals: Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "BATCH_SIZE", 16)
    whole = make_signals(tmp_path / "whole", teacher, corpus)
    load, deaths = load_model, 0
    for calls in (3, 9, 17):
        monkeypatch.setattr(module, "load_model", lambda folder, calls=calls: Dying(load(folder), calls))
        with pytest.raises(KeyboardInterrupt):
            make_signals(tmp_path / "killed", teacher, corpus)
        deaths += 1
    monkeypatch.setattr(module, "load_model", load)
    make_signals(tmp_path / "killed", teacher, corpus)
    assert deaths == 3

    def recorded(folder: Path) -> str:
        return sha256_of_tree(folder, [file for file in files_in(folder) if file.suffix == ".npy"])

    assert recorded(tmp_path / "killed") == recorded(whole.folder)


class Dying(torch.nn.Module):
    """A model that does not survive more than so many batches."""

    def __init__(self, sound: Any, batches: int) -> None:
        super().__init__()
        self.sound, self._left, self.asked, self.width = sound, iter(range(batches)), 0, sound.width

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if next(self._left, None) is None:
            raise KeyboardInterrupt
        self.asked += 1
        logits: torch.Tensor = self.sound(ids, mask)
        return logits


@pytest.fixture
def many() -> TokenRows:
    """Rows for 70 batches of 4, so that some are counted as done and some are not."""
    return token_rows(np.random.default_rng(0).integers(1, 12, 280).tolist())


@pytest.fixture
def batches_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "BATCH_SIZE", 4)


def answered(learner: Any, rows: TokenRows, folder: Path) -> bytes:
    """Return the file of logits after one try."""
    folder.mkdir(exist_ok=True)
    resumable_outputs(learner, rows, 2, folder / "train.outputs.npy", folder, "tiny", CPU)
    return (folder / "train.outputs.npy").read_bytes()


@pytest.mark.usefixtures("batches_of_four")
@pytest.mark.parametrize("batches", [0, 1, 31, 32, 33, 64, 69])
def test_logits_killed_after_any_batch_and_resumed_are_bit_identical(
    batches: int, many: TokenRows, tmp_path: Path
) -> None:
    whole = answered(Dying(model(), 70), many, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        answered(Dying(model(), batches), many, tmp_path / "killed")
    rest = Dying(model(), 70)
    assert answered(rest, many, tmp_path / "killed") == whole
    assert rest.asked == 70 - batches // 32 * 32, "what was counted as done is not asked again"
    nothing = Dying(model(), 0)
    assert answered(nothing, many, tmp_path / "killed") == whole


@pytest.mark.usefixtures("batches_of_four")
def test_a_counter_without_its_file_counts_for_nothing(many: TokenRows, tmp_path: Path) -> None:
    whole = answered(model(), many, tmp_path / "try")
    (tmp_path / "try" / "train.outputs.npy").unlink()
    assert answered(model(), many, tmp_path / "try") == whole


@pytest.mark.usefixtures("batches_of_four")
def test_a_counter_that_runs_ahead_is_seen(many: TokenRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = answered(model(), many, tmp_path / "whole")
    monkeypatch.setattr(resumable, "write_atomic", lambda file, text: write_atomic(file, str(int(text) + 1)))
    with pytest.raises(KeyboardInterrupt):
        answered(Dying(model(), 32), many, tmp_path / "killed")
    assert answered(model(), many, tmp_path / "killed") != whole


def test_row_hashes_of_a_sound_cache_are_all_proven(corpus: Corpus, signals: Signals) -> None:
    assert all(prove_row_hashes(signals, corpus, name) == split.rows for name, split in corpus.splits.items())


def _swap(rows: np.ndarray) -> np.ndarray:
    return rows[[1, 0, *range(2, len(rows))]]


@pytest.mark.parametrize(
    ("harm", "wrong"), [(_swap, "2 of 60"), (lambda rows: rows[:-1], "1 of 60"), (lambda rows: rows[1:], "60 of 60")]
)
def test_hashes_that_are_not_the_rows_are_found(harm: Any, wrong: str, corpus: Corpus, copied: Signals) -> None:
    file = copied.path(copied.splits["test"].row_hashes)
    np.save(file, harm(np.load(file)))
    assert corpus.splits["test"].rows == 60
    with pytest.raises(StageError, match=f"{wrong} cached teacher outputs for test belong to other texts"):
        prove_row_hashes(copied, corpus, "test")


def test_a_tokenizer_that_reads_otherwise_is_found(corpus: Corpus, teacher: Teacher, signals: Signals) -> None:
    tokenizer = load_tokenizer(teacher.path(teacher.checkpoint))
    rows = corpus.splits["train"].rows
    assert prove_token_ids(signals, corpus, "train", tokenizer) == min(256, rows)
    tokenizer.model_max_length = 8
    with pytest.raises(StageError, match=r"teacher and student read row \d+ of train as different token ids"):
        prove_token_ids(signals, corpus, "train", tokenizer)


def test_one_other_id_is_found(corpus: Corpus, teacher: Teacher, copied: Signals) -> None:
    file = copied.path(copied.splits["test"].token_ids)
    ids = np.load(file)
    ids[-2] += 1
    np.save(file, ids)
    with pytest.raises(StageError, match="read row 59 of test as different"):
        prove_token_ids(copied, corpus, "test", load_tokenizer(teacher.path(teacher.checkpoint)))


def test_an_evaluation_measures_labelled_rows_and_keeps_every_answer(signals: Signals, tmp_path: Path) -> None:
    labels = SplitSignals(signals, "train").labels
    perfect = np.eye(2, dtype=np.float32)[np.maximum(labels, 0)]
    found = evaluate(lambda name: perfect, signals, ("train",), tmp_path, "perfect")
    assert (found.metrics["train"].value, found.metrics["train"].n) == (1.0, int((labels >= 0).sum()))
    assert np.array_equal(np.load(tmp_path / found.outputs["train"]), perfect)
    worst = evaluate(lambda name: perfect[:, ::-1], signals, ("train",), tmp_path, "worst")
    assert worst.metrics["train"].value == 0.0
