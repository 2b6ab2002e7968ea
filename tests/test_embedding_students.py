"""Every kind of student gives sentence vectors: where the teacher's lie, counted exactly, read back as saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_artifact import VOCAB
from tiny_models import ARCHITECTURES, write_model

from edgedistill import registry
from edgedistill.models import student as students
from edgedistill.models.config_json import read_config
from edgedistill.models.load import load_embedder, load_model, load_tokenizer
from edgedistill.models.resolve import copy_checkpoint, digest
from edgedistill.models.student import Head
from edgedistill.recipe_sections import ModelReference

STUDENTS = "edgedistill.models.students"
EMBEDDERS = [
    name for name in registry.names(STUDENTS) if "sentence_embedding" in registry.load(STUDENTS, name).Options.TASKS
]
SMALL: dict[str, dict[str, Any]] = {
    "layers": {"layers": 2},
    "scaled": {"layers": 2, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 20},
    "pretrained": {"model": {"path": "."}, "licence": "MIT"},
    "static": {"dimensions": 16},
}
IDS = torch.randint(4, VOCAB, (3, 9), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] * 2 + [0] * 7])


def write_teacher(folder: Path, architecture: str = "bert") -> Path:
    """Write a teacher that says how it pools."""
    write_model(folder / "plain", architecture, headed=False)
    load_embedder(folder / "plain", "mean").save(folder / "teacher")
    load_tokenizer(folder / "plain").save_pretrained(folder / "teacher")
    return folder / "teacher"


def made(kind: str, teacher: Path, head: Head, **more: Any) -> Any:
    options = registry.load(STUDENTS, kind).Options(kind=kind, **{**SMALL[kind], **more})
    folder = teacher.parent / "progress"
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    return students.make(options, teacher, head, folder).eval()


def width_of(teacher: Path) -> int:
    return int(load_model(teacher).width)


def faults(student: Any, kind: str, teacher: Path, width: int, *, turned: bool = False) -> list[str]:
    """Return what is wrong with an embedder that is to have this width."""
    found, options = [], registry.load(STUDENTS, kind).Options(kind=kind, **SMALL[kind])
    with torch.no_grad():
        said = student(IDS, MASK)
        student.save(teacher.parent / "saved")
        if not torch.equal(load_model(teacher.parent / "saved")(IDS, MASK), said):
            found.append("its checkpoint computes what it computes")
        if not torch.allclose(said[2:], student(IDS[2:, :2], MASK[2:, :2]), atol=1e-5):
            found.append("padding changes nothing")
    if said.shape != (3, width) or not torch.allclose(said.norm(dim=1), torch.ones(3), atol=1e-5):
        found.append("vectors have the asked width, and length 1")
    real = sum(parameter.numel() for parameter in student.parameters())
    counted = students.anatomy(options, read_config(teacher), 0, 8, width, turned=turned).parameters
    if counted != real:
        found.append(f"it is counted exactly before it exists: {counted} and not {real}")
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", EMBEDDERS)
def test_every_student_gives_vectors_as_wide_as_the_teachers(kind: str, architecture: str, tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path, architecture)
    width = width_of(teacher)
    assert faults(made(kind, teacher, Head((), width)), kind, teacher, width) == []


@pytest.mark.parametrize("kind", EMBEDDERS)
def test_every_student_gives_shorter_ones_in_other_directions(kind: str, tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path)
    width = width_of(teacher)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))[0].astype(np.float32)
    head = Head((), 8, np.ascontiguousarray(turn[:, :8]))
    student = made(kind, teacher, head)
    assert faults(student, kind, teacher, 8, turned=True) == []
    whole = made(kind, teacher, Head((), width))
    with torch.no_grad():
        shortened = whole(IDS, MASK) @ torch.from_numpy(head.projection)
        expected = shortened / shortened.norm(dim=1, keepdim=True)
        assert torch.allclose(student(IDS, MASK), expected, atol=1e-5), "turned before it has learned anything"


@pytest.mark.parametrize("kind", ["layers", "scaled", "pretrained"])
def test_a_student_that_leaves_nothing_out_is_the_teacher(kind: str, tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path)
    whole = load_model(teacher)
    given: dict[str, dict[str, Any]] = {
        "layers": {"layers": 4},
        "scaled": {"layers": None, "hidden_size": None, "num_attention_heads": None, "intermediate_size": None},
        "pretrained": {},
    }
    student = made(kind, teacher, Head((), whole.width), **given[kind])
    with torch.no_grad():
        assert torch.allclose(student(IDS, MASK), whole(IDS, MASK), atol=1e-5)
        assert not torch.allclose(made(kind, teacher, Head((), 8))(IDS, MASK), whole(IDS, MASK)[:, :8], atol=1e-2)


def test_a_checkpoint_is_copied_and_hashed_with_how_it_pools(tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path)
    copy_checkpoint(teacher, tmp_path / "copy")
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "copy")(IDS, MASK), load_model(teacher)(IDS, MASK))
    before = digest(ModelReference(path="teacher"), tmp_path)
    assert digest(ModelReference(path="copy"), tmp_path) == before
    (teacher / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert digest(ModelReference(path="teacher"), tmp_path) != before


def test_the_checks_can_fail(tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path)
    width = width_of(teacher)
    broken = made("layers", teacher, Head((), width))
    broken.more = torch.nn.Linear(2, 2)
    assert faults(broken, "layers", teacher, width)[-1].startswith("it is counted exactly")
    broken = made("layers", teacher, Head((), width))
    broken.normalize = False
    assert "vectors have the asked width, and length 1" in faults(broken, "layers", teacher, width)
