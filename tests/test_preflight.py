"""Each pre-flight check lets a sound distillation pass, and stops the one that it is there to stop."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_artifact import LABELS
from tiny_build import write_encoder
from tiny_distill import DISTILL, STATIC, make_teacher, sealed, teacher_options

from edgedistill.distill import preflight
from edgedistill.distill.preflight import check
from edgedistill.distill.stage import make_student
from edgedistill.errors import StageError, TrainingError
from edgedistill.models.load import load_model, load_tokenizer
from edgedistill.models.student import Head
from edgedistill.models.students import layers
from edgedistill.recipe_sections import DistillOptions
from edgedistill.section import StudentOptions
from edgedistill.student_values import Tokens
from edgedistill.values import Check, Corpus, Signals, Teacher

CHECKS = ["row_hashes", "token_ids", "live_teacher", "teacher_against_itself", "loss_terms", "one_batch_overfits"]


class Setting:
    """What the checks look at; each part may be replaced by a broken one."""

    def __init__(self, folder: Path, teacher: Teacher, corpus: Corpus, signals: Signals, tokens: Tokens) -> None:
        shutil.copytree(signals.folder, folder / "signals")
        self.folder, self.start = folder, teacher.path(teacher.checkpoint)
        self.corpus, self.signals, self.tokens = corpus, sealed(folder / "signals", signals), tokens
        self.student = self.made(STATIC)
        self.teacher: Any = load_model(self.start)
        self.tokenizer = load_tokenizer(self.start)
        self.options = DISTILL

    def made(self, options: StudentOptions) -> Any:
        """Return a student of the teacher."""
        return make_student(options, self.start, Head(tuple(LABELS), len(LABELS)), 0, self.folder / "progress")

    def edit(self, split: str, part: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Change a file of the cache."""
        file = self.signals.path(getattr(self.signals.splits[split], part))
        np.save(file, change(np.load(file)))

    def checked(self) -> dict[str, Check]:
        """Run the checks."""
        found = check(self.student, self.teacher, self.tokenizer, self.options, self.corpus, self.signals, self.tokens)
        return {one.name: one for one in found}


@pytest.fixture
def sound(tmp_path: Path, teacher: Teacher, corpus: Corpus, signals: Signals, tokens: Tokens) -> Setting:
    return Setting(tmp_path, teacher, corpus, signals, tokens)


def test_a_sound_distillation_passes_and_says_what_was_measured(sound: Setting) -> None:
    before = {name: tensor.clone() for name, tensor in sound.student.state_dict().items()}
    found = sound.checked()
    assert list(found) == CHECKS
    assert found["row_hashes"].value == sum(split.rows for split in sound.corpus.splits.values())
    assert found["token_ids"].value > 100
    assert 0 <= found["live_teacher"].value < 1e-4
    assert found["teacher_against_itself"].value < 1e-6
    assert 1 <= found["loss_terms"].value < 100
    assert 0 < found["one_batch_overfits"].value <= 0.5
    assert all(one.explanation and one.limit for one in found.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in sound.student.state_dict().items())


@pytest.mark.parametrize("losses", [["forward_kl"], ["forward_kl", "cross_entropy"]])
@pytest.mark.parametrize("count", [1, 2])
def test_students_of_layers_pass_even_where_they_are_the_teacher(count: int, losses: list[str], sound: Setting) -> None:
    sound.student = sound.made(layers.Options(kind="layers", layers=count))
    sound.options = DistillOptions.model_validate({"losses": [{"loss": name} for name in losses]})
    assert list(sound.checked()) == CHECKS


@pytest.mark.parametrize("losses", [["forward_kl"], ["cross_entropy"]])
def test_one_loss_alone_passes(losses: list[str], sound: Setting) -> None:
    sound.options = DistillOptions.model_validate({"losses": [{"loss": name} for name in losses]})
    assert sound.checked()["loss_terms"].value == 1.0


def _permuted(sound: Setting) -> None:
    sound.edit("train", "outputs", lambda logits: logits[::-1])


def _turned(sound: Setting) -> None:
    sound.edit("train", "outputs", lambda logits: logits[:, ::-1])


def _one_class_permuted(sound: Setting) -> None:
    sound.edit("train", "outputs", lambda logits: np.stack([logits[:, 0], np.roll(logits[:, 1], 1)], axis=1))


def _other_teacher(sound: Setting) -> None:
    sound.teacher = load_model(sound.start)
    with torch.no_grad():
        sound.teacher.model.bert.encoder.layer[0].output.dense.weight.mul_(1.05)


def _tiny_weight(sound: Setting) -> None:
    losses = [{"loss": "forward_kl"}, {"loss": "cross_entropy", "weight": 1e-9}]
    sound.options = DistillOptions.model_validate({"losses": losses})


class Detached(torch.nn.Module):
    """A student whose logits carry no gradient to the weights that make them."""

    def __init__(self, student: Any, *, wholly: bool) -> None:
        super().__init__()
        self.student, self.wholly = student, wholly
        self.bias = torch.nn.Parameter(torch.zeros(()))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.student(ids, mask).detach()
        return logits if self.wholly else logits + self.bias  # which a softmax ignores


def _detached(sound: Setting) -> None:
    sound.student = Detached(sound.student, wholly=True)


def _detached_but_for_a_bias(sound: Setting) -> None:
    sound.student = Detached(sound.student, wholly=False)


def _frozen(sound: Setting) -> None:
    sound.student.requires_grad_(False)


BROKEN: list[tuple[Callable[[Setting], None], str]] = [
    (_permuted, "live_teacher"),
    (_turned, "live_teacher"),
    (_one_class_permuted, "live_teacher"),
    (_other_teacher, "live_teacher"),
    (_tiny_weight, "loss_terms"),
    (_detached, "one_batch_overfits"),
    (_detached_but_for_a_bias, "one_batch_overfits"),
    (_frozen, "one_batch_overfits"),
]


@pytest.mark.parametrize(("harm", "name"), BROKEN)
def test_what_would_teach_nothing_is_stopped(harm: Callable[[Setting], None], name: str, sound: Setting) -> None:
    harm(sound)
    with pytest.raises(TrainingError, match=f"pre-flight check {name}: .* is .*, must be at most .*; "):
        sound.checked()


def test_a_teacher_with_dropout_on_is_asked_without_it(sound: Setting) -> None:
    sound.teacher.train()
    assert sound.checked()["live_teacher"].value < 1e-4


def test_the_tiny_weights_error_says_the_sizes(sound: Setting) -> None:
    _tiny_weight(sound)
    with pytest.raises(TrainingError, match=r"change their weights: forward_kl [0-9.e-]+, cross_entropy [0-9.e-]+$"):
        sound.checked()


def test_rows_and_ids_that_do_not_match_are_stopped(sound: Setting) -> None:
    sound.edit("validation", "row_hashes", lambda hashes: hashes[::-1])
    with pytest.raises(StageError, match="cached teacher outputs for validation belong to other texts"):
        sound.checked()


def test_another_tokenizer_is_stopped(sound: Setting) -> None:
    sound.tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(StageError, match="teacher and student read row 0 of train as different token ids"):
        sound.checked()


def test_a_loss_that_lies_about_being_a_divergence_is_stopped(sound: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill.distill.losses import cross_entropy

    monkeypatch.setattr(cross_entropy.Options, "DIVERGENCE", True)
    with pytest.raises(TrainingError, match="teacher_against_itself"):
        sound.checked()


def test_the_wrong_teacher_is_stopped(sound: Setting, corpus: Corpus) -> None:
    write_encoder(sound.folder / "encoder")
    options = teacher_options(sound.folder / "encoder", method="head", epochs=1, learning_rate=1e-3)
    other = make_teacher(sound.folder / "other", corpus, options)
    sound.teacher = load_model(other.path(other.checkpoint))
    with pytest.raises(TrainingError, match=r"live_teacher: .*the cache belongs to another teacher: delete"):
        sound.checked()


@pytest.mark.parametrize(("value", "passes"), [(0.5, True), (0.51, False), (float("nan"), False)])
def test_no_number_passes_by_not_being_one(value: float, passes: bool) -> None:
    if passes:
        assert preflight._passed("name", value, 0.5, "what", "cure").value == value
    else:
        with pytest.raises(TrainingError, match=r"pre-flight check name: what is .*, must be at most 0\.5; cure"):
            preflight._passed("name", value, 0.5, "what", "cure")
