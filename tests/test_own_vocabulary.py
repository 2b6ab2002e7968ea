"""Whole builds of students with a vocabulary of their own, up to the artifact that an app loads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_build import built
from tiny_artifact import write_checkpoint
from tiny_build import RECIPE, write_recipe

from edgedistill import pipeline
from edgedistill.recipe_file import load
from edgedistill.run import Run
from edgedistill.runtimes import onnxruntime
from edgedistill.student_values import Tokens
from edgedistill.values import Artifact

STATIC = "student: {kind: static, dimensions: 16, hidden_size: 8}"
STUDENTS = {
    "static": "student: {kind: static, dimensions: 16, hidden_size: 8, vocabulary: {size: 30}, embedding_rank: 6}",
    "layers": "student: {kind: layers, layers: 1, vocabulary: {size: 40}, embedding_rank: 8}",
    "pretrained": "student: {kind: pretrained, licence: BSD-3-Clause, model: {path: small}, vocabulary: {size: 40}}",
}


class Built:
    """A build up to its artifact."""

    def __init__(self, folder: Path, student: str) -> None:
        text = RECIPE.replace(STATIC, student).replace("fit: {method: full, epochs: 3", "fit: {method: full, epochs: 1")
        assert student in text
        self.recipe, self.out = write_recipe(folder, text), folder / "runs"
        write_checkpoint(folder / "small")
        (folder / "small" / "LICENSE").write_text("as you like", encoding="utf-8")

    def value(self, name: str, kind: Any) -> Any:
        run = Run(self.out / "tiny")
        return kind.load(run.folder_of(name, pipeline.stages(load(self.recipe), self.recipe.parent, run)[name].needs))


@pytest.mark.parametrize("kind", STUDENTS)
def test_an_artifact_has_the_students_own_tokenizer_and_table(kind: str, tmp_path: Path) -> None:
    made: Any = Built(tmp_path, STUDENTS[kind])
    ended = built(made, verb="export")
    assert ended.returncode == 0, ended.stderr
    tokens, artifact = made.value("tokens", Tokens), made.value("export-onnx", Artifact)
    assert tokens.vocabulary < tokens.whole_vocabulary
    root = artifact.path(artifact.root)
    said = json.loads((root / "config.json").read_text(encoding="utf-8"))
    assert said["vocab_size"] == tokens.vocabulary
    assert len(json.loads((root / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]) == tokens.vocabulary
    for variant in artifact.variants:
        model = onnxruntime.load(root, str(variant.file), threads=1)
        encoded = model.encode(["good bad film", "w3 w99 w100"])
        assert encoded["input_ids"].max() < tokens.vocabulary
        assert np.isfinite(model.run(encoded)).all()
    assert not (root / "vocab.txt").exists()
    notice = (root / "NOTICE").read_text(encoding="utf-8")
    assert ("training started from: small\nwhich is under: BSD-3-Clause" in notice) == (kind == "pretrained")
    assert (root / "start-LICENSE").exists() == (kind == "pretrained")
    again = built(made, verb="export")
    assert "] tokens: cached" in again.stderr


def test_a_size_that_is_not_sensible_is_warned_about_before_the_work_begins(tmp_path: Path) -> None:
    made: Any = Built(tmp_path, STATIC.replace("dimensions: 16", "dimensions: 80"))
    planned = built(made, verb="plan")
    assert planned.returncode == 0, planned.stderr
    said = "warning: the student's 80 dimensions are more than the 64 that the teacher's token vectors have"
    assert said in planned.stdout.replace("\n", " ")
    ended = built(made, verb="distill")
    assert ended.stderr.index(said) < ended.stderr.index("] corpus")
    assert "warning:" not in built(made, verb="distill").stderr, "nothing is to be trained"
