"""What every kind of student keeps, however many are added."""

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, get_args

import pytest
import torch
from tiny_artifact import LABELS, VOCAB, texts
from tiny_models import ARCHITECTURES, write_model

from edgedistill import registry
from edgedistill.models.config_json import read_config
from edgedistill.models.load import load_model
from edgedistill.models.student import Head, make
from edgedistill.recipe_sections import DistillOptions
from edgedistill.section import StudentOptions

STUDENTS = "edgedistill.models.students"
SMALL: dict[str, dict[str, Any]] = {
    "layers": {"layers": 2},
    "scaled": {"layers": 2, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 20},
    "pretrained": {"model": {"path": "."}, "licence": "MIT"},
    "static": {"dimensions": 16, "hidden_size": 8},
}
"""Options of each kind that fit a tiny teacher of four layers."""
FUNCTIONS = {
    "make": ["options", "teacher", "labels", "folder"],
    "anatomy": ["options", "config", "classes", "tokens"],
    "describe": ["options"],
}
IDS = torch.randint(4, VOCAB, (3, 9), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] * 2 + [0] * 7])


def complaints(module: Any, name: str) -> list[str]:
    """Return what the shape of a student module breaks."""
    found, options = [], module.Options
    if get_args(options.model_fields["kind"].annotation) != (name,):
        found.append("the file's name is the recipe's word")
    if not issubclass(options, StudentOptions) or not options.TASKS:
        found.append("Options says which tasks it does")
    if options.TASKS - set(registry.names("edgedistill.tasks")):
        found.append("its tasks are files of tasks/")
    for function, parameters in FUNCTIONS.items():
        if list(inspect.signature(getattr(module, function, lambda: None)).parameters) != parameters:
            found.append(f"{function} takes {parameters}")
    if not module.__doc__:
        found.append("its first line says what it is")
    return found


@pytest.mark.parametrize("name", registry.names(STUDENTS))
def test_every_student_has_the_shape_of_one(name: str) -> None:
    assert complaints(registry.load(STUDENTS, name), name) == []


def test_a_module_of_another_shape_is_rejected() -> None:
    class Options(StudentOptions):
        kind: Literal["other"]
        TASKS: ClassVar[frozenset[str]] = frozenset({"juggling"})

    broken = SimpleNamespace(Options=Options, make=lambda options: None, describe=lambda options: "", __doc__="")
    assert len(complaints(broken, "mine")) == 5


def test_every_student_is_tested_here() -> None:
    assert set(registry.names(STUDENTS)) == SMALL.keys()


class Made:
    """Students of one kind, made from one teacher."""

    def __init__(self, name: str, teacher: Path, folder: Path) -> None:
        self.module = registry.load(STUDENTS, name)
        self.options = self.module.Options(kind=name, **SMALL[name])
        self.teacher, self.folder, self.count = teacher, folder, 0

    def make(self, seed: int = 0) -> Any:
        """Return a student, made in a fresh folder."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir(parents=True)
        torch.manual_seed(seed)
        return self.module.make(self.options, self.teacher, LABELS, folder)


def faults(made: Any, saved: Path) -> list[str]:
    """Return what is wrong with the students that a module makes."""
    found = []
    student, again = made.make(), made.make()
    if student.labels != LABELS:
        found.append("labels are in the order of the corpus")
    state = again.state_dict()
    if not all(torch.equal(tensor, state[name]) for name, tensor in student.state_dict().items()):
        found.append("teacher and seed decide its weights")
    real = sum(parameter.numel() for parameter in student.parameters())
    counted = made.module.anatomy(made.options, read_config(made.teacher), len(LABELS), tokens=8)
    if (counted.parameters, counted.weights_bytes) != (real, 4 * real):
        found.append("it is counted exactly before it exists")
    if not all(parameter.requires_grad for parameter in student.parameters()):
        found.append("all of it can learn")
    with torch.no_grad():
        logits = student.eval()(IDS, MASK)
        student.save(saved)
        reloaded = load_model(saved)
        if reloaded.labels != student.labels or not torch.equal(reloaded(IDS, MASK), logits):
            found.append("its checkpoint computes what it computes")
        if not torch.allclose(logits[2:], student(IDS[2:, :2], MASK[2:, :2]), atol=1e-5):
            found.append("padding changes nothing")
    if logits.shape != (3, len(LABELS)) or not logits.isfinite().all():
        found.append("logits are finite, (batch, classes)")
    return found


@pytest.mark.parametrize("headed", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", registry.names(STUDENTS))
def test_every_student_keeps_the_contract(name: str, architecture: str, headed: bool, tmp_path: Path) -> None:
    write_model(tmp_path / "teacher", architecture, headed=headed)
    assert faults(Made(name, tmp_path / "teacher", tmp_path / "progress"), tmp_path / "saved") == []


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("headed", [True, False])
@pytest.mark.parametrize("name", registry.names(STUDENTS))
def test_every_student_says_whether_several_labels_may_hold(
    name: str, headed: bool, several: bool, tmp_path: Path
) -> None:
    write_model(tmp_path / "teacher", headed=headed)
    (tmp_path / "progress").mkdir()
    options = registry.load(STUDENTS, name).Options(kind=name, **SMALL[name])
    head = Head(LABELS, len(LABELS), several=several)
    make(options, tmp_path / "teacher", head, tmp_path / "progress").save(tmp_path / "saved")
    said = read_config(tmp_path / "saved").get("problem_type")
    assert said == ("multi_label_classification" if several else None)
    assert load_model(tmp_path / "saved").several == several


class _Broken(Made):
    """Students with one thing wrong."""

    def __init__(self, *given: Any, fault: str) -> None:
        super().__init__(*given)
        self.fault = fault

    def make(self, seed: int = 0) -> Any:
        student: Any = super().make(self.count if self.fault == "unseeded" else seed)
        if self.fault == "frozen":
            student.embedding.requires_grad_(False)
        if self.fault == "turned":
            student.labels = LABELS[::-1]
        if self.fault == "larger":
            student.more = torch.nn.Linear(2, 2)
        if self.fault == "padded":
            student.pool = lambda ids, mask: student.embedding(ids).mean(dim=1)
        return student


@pytest.mark.parametrize("fault", ["unseeded", "frozen", "turned", "larger", "padded"])
def test_the_contract_rejects_broken_students(fault: str, tmp_path: Path) -> None:
    write_model(tmp_path / "teacher")
    broken = _Broken("static", tmp_path / "teacher", tmp_path / "progress", fault=fault)
    if fault == "larger":
        with pytest.raises(RuntimeError, match="Unexpected key"):
            faults(broken, tmp_path / "saved")
    else:
        assert faults(broken, tmp_path / "saved")


@pytest.mark.parametrize("name", registry.names(STUDENTS))
def test_every_student_wants_a_training_that_a_recipe_could_say(name: str) -> None:
    wanted = registry.load(STUDENTS, name).Options.TRAINING
    options = DistillOptions.model_validate(wanted)
    assert all(getattr(options, key) == value for key, value in wanted.items())


@pytest.mark.parametrize("name", registry.names(STUDENTS))
def test_every_student_says_in_words_what_it_starts_from(name: str) -> None:
    module = registry.load(STUDENTS, name)
    assert "teacher" in module.describe(module.Options(kind=name, **SMALL[name]))


@pytest.mark.parametrize("name", registry.names(STUDENTS))
def test_every_student_reads_what_the_teachers_tokenizer_writes(name: str, tmp_path: Path) -> None:
    from edgedistill.models.load import load_tokenizer

    write_model(tmp_path / "teacher")
    student = Made(name, tmp_path / "teacher", tmp_path / "progress").make().eval()
    tokenizer = load_tokenizer(tmp_path / "teacher")
    tokenizer.padding_side = "right"
    encoded = tokenizer(["", *texts(4)], padding=True, truncation=True, return_tensors="pt")
    assert student(encoded["input_ids"], encoded["attention_mask"]).isfinite().all()
