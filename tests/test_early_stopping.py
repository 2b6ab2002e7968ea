"""A training stops early on validation; what lies in the splits that it is measured on changes no weight.

A learner that looks at them would be measured on what it was chosen for, and nothing in its numbers would show it.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_build import write_encoder
from tiny_distill import DISTILL, STATIC, make_teacher, make_tokens, rewritten, sealed, teacher_options

from edgedistill.corpus import read as reading
from edgedistill.distill import controls, stage
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Corpus, Signals, Teacher

OPTIONS = DISTILL.model_copy(update={"epochs": 3})
MEASURED_ON = ("test", "challenge.other", "calibration")
Learner = Callable[[Path, Teacher, Corpus, Signals], bytes]


def student(folder: Path, teacher: Teacher, corpus: Corpus, signals: Signals) -> bytes:
    """Return the weights of a student."""
    tokens = make_tokens(folder / "tokens", teacher, corpus, signals)
    made = stage.distill(OPTIONS, STATIC, teacher=teacher, corpus=corpus, signals=signals, tokens=tokens, folder=folder)
    return (folder / made.checkpoint / "model.safetensors").read_bytes()


def without_teacher(folder: Path, teacher: Teacher, corpus: Corpus, signals: Signals) -> bytes:
    """Return what the student without a teacher says, which its weights decide."""
    values = {"teacher": teacher, "corpus": corpus, "signals": signals}
    made = controls.control(OPTIONS, STATIC, **values, tokens=make_tokens(folder / "tokens", **values), folder=folder)
    assert made.no_teacher is not None
    return (folder / made.no_teacher.outputs["test"]).read_bytes()


def fitted(folder: Path, _teacher: Teacher, corpus: Corpus, _signals: Signals) -> bytes:
    """Return the weights of a fitted teacher."""
    write_encoder(folder / "encoder")
    options = teacher_options(folder / "encoder", method="full", epochs=2, batch_size=16, learning_rate=1e-3)
    made = make_teacher(folder, corpus, options)
    return (folder / made.checkpoint / "model.safetensors").read_bytes()


LEARNERS = {"student": student, "without_teacher": without_teacher, "fitted": fitted}


def opposite(labels: np.ndarray) -> np.ndarray:
    return np.where(labels >= 0, 1 - labels, labels)


def turned(corpus: Corpus, signals: Signals, folder: Path, *splits: str) -> tuple[Corpus, Signals]:
    """Return corpus and signals in which gold labels and teacher say the opposite on these splits."""
    shutil.copytree(signals.folder, folder / "signals")
    for name in splits:
        said, files = SplitSignals(signals, name), signals.splits[name]
        np.save(folder / "signals" / files.labels, opposite(said.labels))
        np.save(folder / "signals" / files.outputs, -np.asarray(said.outputs))
    other = rewritten(corpus, folder / "corpus", "label", opposite, *splits)
    return other, sealed(folder / "signals", signals)


def moves(learn: Learner, folder: Path, teacher: Teacher, corpus: Corpus, signals: Signals) -> bool:
    """Whether the weights are others where what may not be chosen on says the opposite."""
    for name in ("before", "after"):
        (folder / name).mkdir(parents=True)
    before = learn(folder / "before", teacher, corpus, signals)
    return learn(folder / "after", teacher, *turned(corpus, signals, folder / "turned", *MEASURED_ON)) != before


@pytest.mark.parametrize("name", LEARNERS)
def test_what_a_learner_is_measured_on_changes_no_weight(
    name: str, teacher: Teacher, corpus: Corpus, signals: Signals, tmp_path: Path
) -> None:
    assert not moves(LEARNERS[name], tmp_path, teacher, corpus, signals)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_that_stops_on_the_test_split_is_seen(
    name: str, teacher: Teacher, corpus: Corpus, signals: Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looking_at_test(real: Any) -> Any:
        return lambda value, split, *more, **named: real(
            value, "test" if split == "validation" else split, *more, **named
        )

    for module in (stage, controls):
        monkeypatch.setattr(module, "SplitSignals", looking_at_test(SplitSignals))
    for reader in ("read", "labels_of", "texts_of"):
        monkeypatch.setattr(reading, reader, looking_at_test(getattr(reading, reader)))
    assert moves(LEARNERS[name], tmp_path, teacher, corpus, signals)
