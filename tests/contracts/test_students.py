"""What every kind of student keeps, however many are added."""

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, get_args

import pytest
import torch
from tiny_artifact import LABELS, VOCAB, texts
from tiny_models import ARCHITECTURES, write_model
from tiny_pruning import write_measured

from edgedistill import registry
from edgedistill.models.config_json import read_config
from edgedistill.models.decoder import load_decoder
from edgedistill.models.load import load_model
from edgedistill.models.student import Head, decoder_anatomy, make, make_decoder
from edgedistill.recipe_sections import DistillOptions
from edgedistill.section import StudentOptions

STUDENTS = "edgedistill.models.students"
TEXTS = {"text_classification", "multi_label_classification", "sentence_embedding"}
SMALL: dict[str, dict[str, Any]] = {
    "layers": {"layers": 2},
    "scaled": {"layers": 2, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 20},
    "pretrained": {"model": {"path": "."}, "licence": "MIT"},
    "pruned": {"layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
    "static": {"dimensions": 16, "hidden_size": 8},
}
"""Options of each kind that fit a tiny teacher of four layers."""
ENCODERS = [name for name in registry.names(STUDENTS) if TEXTS & registry.load(STUDENTS, name).Options.TASKS]
DECODERS = [
    name for name in registry.names(STUDENTS) if "text_generation" in registry.load(STUDENTS, name).Options.TASKS
]
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
@pytest.mark.parametrize("name", ENCODERS)
def test_every_student_keeps_the_contract(name: str, architecture: str, headed: bool, tmp_path: Path) -> None:
    write_model(tmp_path / "teacher", architecture, headed=headed)
    assert faults(Made(name, tmp_path / "teacher", tmp_path / "progress"), tmp_path / "saved") == []


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("headed", [True, False])
@pytest.mark.parametrize("name", ENCODERS)
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


@pytest.mark.parametrize("name", ENCODERS)
def test_every_student_reads_what_the_teachers_tokenizer_writes(name: str, tmp_path: Path) -> None:
    from edgedistill.models.load import load_tokenizer

    write_model(tmp_path / "teacher")
    student = Made(name, tmp_path / "teacher", tmp_path / "progress").make().eval()
    tokenizer = load_tokenizer(tmp_path / "teacher")
    tokenizer.padding_side = "right"
    encoded = tokenizer(["", *texts(4)], padding=True, truncation=True, return_tensors="pt")
    assert student(encoded["input_ids"], encoded["attention_mask"]).isfinite().all()


class MadeDecoder:
    """Language models of one kind, made from one teacher."""

    def __init__(self, name: str, teacher: Path) -> None:
        self.options = registry.load(STUDENTS, name).Options(kind=name, **SMALL[name])
        self.teacher = teacher

    def make(self) -> Any:
        """Return a student; what was measured of its teacher lies beside that."""
        torch.manual_seed(0)
        return make_decoder(self.options, self.teacher, self.teacher)


def decoder_faults(made: Any, saved: Path) -> list[str]:
    """Return what is wrong with the language models that a module makes."""
    found = []
    student = made.make()
    state = made.make().state_dict()
    if not all(torch.equal(tensor, state[name]) for name, tensor in student.state_dict().items()):
        found.append("teacher and seed decide its weights")
    counted = decoder_anatomy(made.options, read_config(made.teacher), tokens=8)
    if counted.parameters != sum(parameter.numel() for parameter in student.parameters()):
        found.append("it is counted exactly before it exists")
    if not all(parameter.requires_grad for parameter in student.parameters()):
        found.append("all of it can learn")
    with torch.no_grad():
        said = student.eval()(IDS, MASK)
        student.save(saved)
        if not torch.equal(load_decoder(saved)(IDS, MASK), said):
            found.append("its checkpoint computes what it computes")
        if not torch.allclose(said[2:, :2], student(IDS[2:, :2], MASK[2:, :2]), atol=1e-4):
            found.append("padding changes nothing")
    if said.shape[2] != load_decoder(made.teacher).vocab_size or not said.isfinite().all():
        found.append("it says a logit for each token of its teacher")
    return found


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("name", DECODERS)
def test_every_language_model_keeps_the_contract(name: str, architecture: str, tmp_path: Path) -> None:
    write_measured(tmp_path / "teacher", architecture)
    assert decoder_faults(MadeDecoder(name, tmp_path / "teacher"), tmp_path / "saved") == []


@pytest.mark.parametrize("fault", ["unseeded", "frozen", "larger", "padded"])
def test_the_contract_rejects_broken_language_models(fault: str, tmp_path: Path) -> None:
    write_measured(tmp_path / "teacher")

    class Broken(MadeDecoder):
        def make(self) -> Any:
            student: Any = super().make()
            if fault == "unseeded":
                torch.nn.init.normal_(student.token_table.weight, std=torch.seed() % 7 + 1)
            if fault == "frozen":
                student.token_table.requires_grad_(False)
            if fault == "larger":
                student.more = torch.nn.Linear(2, 2)
            if fault == "padded":
                student.forward = lambda ids, mask: type(student).forward(student, ids.flip(1), mask.flip(1))
            return student

    assert decoder_faults(Broken("pruned", tmp_path / "teacher"), tmp_path / "saved")
