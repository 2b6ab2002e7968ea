"""One finished build of the tiny recipe, made once through the command line, and what many tests do with it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from filelock import FileLock
from tiny_build import write_recipe

from edgedistill import pipeline
from edgedistill.cli import main
from edgedistill.recipe_file import load
from edgedistill.results import BenchmarkResult
from edgedistill.run import Run
from edgedistill.student_values import Tokens
from edgedistill.values import Artifact, Controls, Corpus, QuantizedModel, Signals, Student, Teacher

ROOT = Path(__file__).parent.parent
VALUES = {
    "corpus": Corpus,
    "teacher": Teacher,
    "signals": Signals,
    "tokens": Tokens,
    "student": Student,
    "controls": Controls,
    "quantize-dynamic_int8": QuantizedModel,
    "export-onnx": Artifact,
    "benchmark": BenchmarkResult,
}


@dataclass(frozen=True)
class Finished:
    """A recipe, and the folder that its run lies in."""

    recipe: Path
    out: Path

    @property
    def run(self) -> Path:
        return self.out / self.recipe.stem

    @property
    def artifact(self) -> Path:
        return self.run / "artifacts" / f"{self.recipe.stem}-0.1.0-onnx"

    def stage(self, name: str) -> Path:
        """Return the folder of one stage, finished or not."""
        run = Run(self.run)
        return run.folder_of(name, pipeline.stages(load(self.recipe), self.recipe.parent, run)[name].needs)

    def value(self, name: str) -> Any:
        """Return what a finished stage said."""
        return VALUES[name].load(self.stage(name))

    def copied(self, to: Path) -> "Finished":
        """Return a copy of recipe and run, for a test that changes them."""
        shutil.copytree(self.recipe.parent, to / "recipe")
        shutil.copytree(self.out, to / "runs")
        return Finished(to / "recipe" / self.recipe.name, to / "runs")

    def without(self, *stages: str) -> "Finished":
        """Return this very build after the stages were removed, as if they had never run."""
        for name in stages:
            shutil.rmtree(self.stage(name))
        return self

    def edit(self, *changes: tuple[str, str]) -> "Finished":
        """Return this very build after words of its recipe were changed."""
        text = self.recipe.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        self.recipe.write_text(text, encoding="utf-8")
        return self


def command(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, and return how it ended and what it said."""
    return subprocess.run(
        [sys.executable, "-m", "edgedistill", *map(str, arguments)],
        **{"capture_output": True, "text": True, "check": False, "timeout": 300, "env": environment()} | settings,
    )


def environment(**more: str) -> dict[str, str]:
    """Return what a process of ours needs to find this very package."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **more}


def built(finished: Finished, *arguments: object, verb: str = "build", **settings: Any) -> Any:
    """Run a verb on a recipe, and return how it ended."""
    return command(verb, finished.recipe, "--out", finished.out, *arguments, **settings)


def called(file: Path, out: Path, verb: str = "build") -> Result:
    """Run a verb inside this process, where the heavy libraries are loaded already, without progress."""
    return CliRunner().invoke(main, [verb, str(file), "--out", str(out), "--quiet"])


def one_line(ended: Any) -> str:
    """Return the one line that a user is told of an error, made sure that there is no traceback."""
    lines = [line for line in ended.stderr.splitlines() if not line.startswith(" ")]
    assert "Traceback" not in ended.stderr
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], ended.stderr
    return lines[-1]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its relative name."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }


def build_once(folder: Path) -> Finished:
    """Return the build that all tests of this session share.

    Args:
        folder: the session's temporary folder; the workers of pytest-xdist have theirs side by side in one.
    """
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    made = Finished(shared / "finished" / "tiny.yaml", shared / "finished-runs")
    with FileLock(shared / "finished.lock"):
        if not made.run.exists():
            write_recipe(made.recipe.parent)
            ended = built(made)
            assert ended.returncode == 0, ended.stderr
    return made
