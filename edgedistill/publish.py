"""The last step of a build: put the report, and the artifacts that pass, where people look for them.

    runs/<recipe>/report.md, report.html, report.json
    runs/<recipe>/artifacts/<name>-<version>-<format>/

A build whose verdict is FAIL promotes nothing. What an artifact holds is decided by the recipe and the library
versions alone, no measured time and no date, so that two builds give the same bytes.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedistill.files import clear, files_in, sha256_of, write_atomic, write_changed
from edgedistill.recipe import Recipe
from edgedistill.results import BenchmarkResult, Report

SUMS = "SHA256SUMS"


def publish(recipe: Recipe, root: Path, report: Report, made: Mapping[str, Any], measured: BenchmarkResult) -> None:
    """Copy the report to the run folder, and every artifact to `artifacts/` unless the verdict is FAIL."""
    for relative in (report.markdown, report.html, report.data):
        write_changed(root / relative.name, report.path(relative).read_bytes())
    if report.verdict == "FAIL":
        return
    for name, artifact in made["artifacts"].items():
        target = root / "artifacts" / f"{recipe.name}-{recipe.version}-{name}"
        origin, origin_file = f"{artifact.folder.name} {report.folder.name}\n", root / f"{target.name}.origin"
        if origin_file.exists() and origin_file.read_text(encoding="utf-8") == origin and _complete(target):
            continue
        draft = root / "artifacts.draft"
        clear(draft)
        shutil.copytree(artifact.path(artifact.root), draft, dirs_exist_ok=True)
        _add_card(draft, recipe, made, artifact, measured)
        names = [file.relative_to(draft).as_posix() for file in files_in(draft)]
        write_atomic(draft / SUMS, "".join(f"{sha256_of(draft / name)}  {name}\n" for name in names))
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        draft.replace(target)
        write_atomic(origin_file, origin)


def _complete(target: Path) -> bool:
    """Whether a promoted artifact is as it was promoted."""
    if not (target / SUMS).exists():
        return False
    lines = (target / SUMS).read_text(encoding="utf-8").splitlines()
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return all((target / name).exists() and sha256_of(target / name) == digest for name, digest in expected.items())


def _add_card(folder: Path, recipe: Recipe, made: Mapping[str, Any], artifact: Any, measured: BenchmarkResult) -> None:
    from edgedistill.report.card import model_card

    card = model_card(
        recipe, corpus=made["corpus"], teacher=made["teacher"], student=made["student"],
        quantized=made["quantized"], artifact=artifact, benchmark=measured,
    )  # fmt: skip
    write_atomic(folder / "README.md", card)
