"""The last step of a build: put the report, and the artifacts that pass, where people look for them.

    runs/<recipe>/report.md, report.html, report.json
    runs/<recipe>/artifacts/<name>-<version>-<format>/

A build whose verdict is FAIL promotes nothing, and withdraws what stands under the same name and version. What an
artifact holds is decided by the recipe and the library versions alone, no measured time and no date, so that two
builds give the same bytes.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.errors import FolderNotOurs
from edgedistill.files import clear, files_in, read_sums, sha256_of, write_atomic, write_changed
from edgedistill.progress import say
from edgedistill.recipe import Recipe
from edgedistill.results import BenchmarkResult, Report

SUMS = "SHA256SUMS"
MODELS = (".onnx", ".onnx.data", ".gguf")


def publish(
    recipe: Recipe,
    root: Path,
    report: Report,
    made: Mapping[str, Any],
    measured: BenchmarkResult | DecoderBenchmark,
    *,
    promote: bool,
) -> None:
    """Copy the report to the run folder, and if they may be promoted, the artifacts to `artifacts/`."""
    for relative in (report.markdown, report.html, report.data):
        write_changed(root / relative.name, report.path(relative).read_bytes())
    for name, artifact in made["artifacts"].items():
        target = root / "artifacts" / f"{recipe.name}-{recipe.version}-{name}"
        if not promote:
            _withdraw(target)
            continue
        origin, origin_file = f"{artifact.folder.name} {report.folder.name}\n", root / f"{target.name}.origin"
        if origin_file.exists() and origin_file.read_text(encoding="utf-8") == origin and _complete(target):
            continue
        draft = root / "artifacts.draft"
        clear(draft)
        shutil.copytree(artifact.path(artifact.root), draft, dirs_exist_ok=True)
        _add_card(draft, recipe, made, artifact, measured)
        write_atomic(draft / SUMS, "".join(f"{digest}  {name}\n" for name, digest in _sums_of(draft).items()))
        _replace_ours(target, draft)
        target.parent.mkdir(exist_ok=True)
        draft.replace(target)
        write_atomic(origin_file, origin)


def _complete(target: Path) -> bool:
    """Whether every file of a promoted artifact is as it was promoted."""
    if not (target / SUMS).exists():
        return False
    present = _sums_of(target)
    return all(present.get(name) == digest for name, digest in read_sums(target / SUMS).items())


def _sums_of(folder: Path) -> dict[str, str]:
    """Return name -> SHA-256 of every file but the sums themselves."""
    names = [file.relative_to(folder).as_posix() for file in files_in(folder)]
    return {name: sha256_of(folder / name) for name in names if name != SUMS}


def _withdraw(target: Path) -> None:
    """Move what an earlier build promoted under this name and version to `artifacts.withdrawn/`.

    Beside a report that says FAIL nobody must take it for what the report speaks of.
    """
    if target.exists():
        place = target.parent.with_name("artifacts.withdrawn") / target.name
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(exist_ok=True)
        target.replace(place)


def _replace_ours(target: Path, draft: Path) -> None:
    """Make room for what was just built, and say so where a model changes under the same version.

    Raises:
        FolderNotOurs: a file was added or changed after promotion; nothing that a person put there is removed.
    """
    if not target.exists():
        return
    promoted, new = read_sums(target / SUMS) if (target / SUMS).exists() else {}, _sums_of(draft)
    theirs = [name for name, digest in _sums_of(target).items() if digest not in (promoted.get(name), new.get(name))]
    if theirs:
        shutil.rmtree(draft)
        raise FolderNotOurs(
            f"{target / theirs[0]} was added or changed after promotion; move it away, or give the recipe a new version"
        )
    if any(name.endswith(MODELS) and new.get(name) != digest for name, digest in promoted.items()):
        say(f"another model was promoted as {target.name} before; it is in artifacts.withdrawn/ now")
        _withdraw(target)
    else:
        shutil.rmtree(target)


def _add_card(
    folder: Path, recipe: Recipe, made: Mapping[str, Any], artifact: Any, measured: BenchmarkResult | DecoderBenchmark
) -> None:
    card: str
    given = {name: made[name] for name in ("corpus", "teacher", "student", "quantized")}
    if isinstance(measured, DecoderBenchmark):
        from edgedistill.report.decoder.card import model_card as decoder_card

        card = decoder_card(recipe, **given, signals=made["signals"], artifact=artifact, benchmark=measured)
    else:
        from edgedistill.report.card import model_card

        card = model_card(recipe, **given, artifact=artifact, benchmark=measured)
    write_atomic(folder / "README.md", card)
