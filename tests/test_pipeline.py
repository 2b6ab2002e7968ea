"""The order of the stages, and what each depends on: no more, or work is lost; no less, or a result is stale."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from finished_build import ROOT, Finished, contents, environment
from tiny_build import HEADED_RECIPE, RECIPE, rows, write_headed_recipe, write_recipe, write_rows

from edgedistill import pipeline, provenance, registry
from edgedistill.benchmark import stage as benchmarking
from edgedistill.recipe_file import load
from edgedistill.results import BenchmarkResult
from edgedistill.run import Run
from edgedistill.stages import Stage, recipe_sha256
from edgedistill.targets._target import Target

PACKAGE = ROOT / "edgedistill"
NEW = Run(Path("no-such-run"))  # nothing is finished there
REPORT = {"report"}
BENCHMARK = {"benchmark"} | REPORT
EXPORT = {"export-onnx"} | BENCHMARK
QUANTIZE = {"quantize-dynamic_int8"} | EXPORT
STUDENT = {"student", "controls"} | QUANTIZE
TOKENS = {"tokens"} | STUDENT
TEACHER = {"teacher", "signals"} | TOKENS
ALL = {"corpus"} | TEACHER


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


def fingerprints(file: Path) -> dict[str, str]:
    return {name: stage.fingerprint for name, stage in pipeline.stages(load(file), file.parent, NEW).items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [
        ("calls: 5", "calls: 6", BENCHMARK),
        ("licence: MIT\ntask", "budget: {max_file_bytes: 1 MB}\nlicence: MIT\ntask", REPORT),
        ("distill: {epochs: 6", "distill: {epochs: 7", STUDENT),
        ("distill: {epochs: 6", "distill: {search: {}, epochs: 6", STUDENT),
        ("distill: {epochs: 6", "distill: {augment: {}, epochs: 6", {"signals", "tokens"} | STUDENT),
        ("student: {kind: static, dimensions: 16", "student: {kind: static, dimensions: 24", STUDENT),
        ("student: {kind: static, dim", "student: {kind: static, embedding_rank: 8, dim", STUDENT),
        ("student: {kind: static, dim", "student: {kind: static, vocabulary: {min_count: 2}, dim", TOKENS),
        ("student: {kind: static, dim", "student: {kind: static, vocabulary: {size: 99}, dim", TOKENS),
        ("min_weights: 1", "min_weights: 2", QUANTIZE),
        ("min_weights: 1", "min_weights: 1, reduced_range: always", QUANTIZE),
        ("student:", "export: [{format: onnx, opset: 19}]\nstudent:", EXPORT),
        ("licence: MIT\ntask", "licence: MIT\nversion: 0.2.0\ntask", EXPORT),
        ("licence: MIT\ntask", "licence: BSD-3-Clause\ntask", EXPORT),
        ("fit: {method: full, epochs: 3", "fit: {method: full, epochs: 2", TEACHER),
        ("max_length: 32", "max_length: 16", TEACHER),
        ("data:", "data:\n  split: {salt: other}", ALL),
        ("data:", "data:\n  near_duplicate_similarity: 0.9", ALL),
        ("labels: [negative, positive]", "labels: [positive, negative]", ALL),
    ],
)
def test_a_changed_line_runs_again_what_depends_on_it_and_nothing_else(
    written: Path, old: str, new: str, again: set[str]
) -> None:
    assert old in RECIPE
    changed = written.with_name("changed.yaml")
    changed.write_text(RECIPE.replace(old, new, 1), encoding="utf-8")
    before, after = fingerprints(written), fingerprints(changed)
    assert {name for name in before if after[name] != before[name]} == again


def test_what_is_written_otherwise_and_means_the_same_runs_nothing_again(written: Path) -> None:
    changed = written.with_name("changed.yaml")
    text = RECIPE.replace("1.0e-2", "0.01").replace(
        "licence: MIT\n", "# a comment\nlicence: 'MIT'\nversion: 0.1.0\n", 1
    )
    changed.write_text(text, encoding="utf-8")
    assert text != RECIPE
    assert fingerprints(changed) == fingerprints(written)


@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("train.jsonl", ALL),
        ("other.jsonl", ALL),
        ("teacher/model.safetensors", TEACHER),
        ("teacher/tokenizer.json", TEACHER),
        ("teacher/notes.md", set()),
    ],
)
def test_a_changed_file_runs_again_what_reads_it(recipe: Path, file: str, again: set[str]) -> None:
    before = fingerprints(recipe)
    changed = recipe.parent / file
    changed.write_bytes((changed.read_bytes() if changed.exists() else b"") + b"\n")
    after = fingerprints(recipe)
    assert {name for name in before if after[name] != before[name]} == again


def test_a_headed_teachers_labels_belong_to_the_corpus(tmp_path: Path) -> None:
    file = write_headed_recipe(tmp_path, HEADED_RECIPE)
    before = fingerprints(file)
    config = tmp_path / "headed" / "config.json"
    config.write_text(config.read_text(encoding="utf-8").replace("positive", "cheerful"), encoding="utf-8")
    assert fingerprints(file)["corpus"] != before["corpus"]


@pytest.mark.parametrize(
    ("library", "users"),
    [("jinja2", REPORT), ("onnx", EXPORT), ("scikit-learn", STUDENT), ("torch", TEACHER)],
)
def test_another_version_of_a_library_runs_again_what_uses_it(
    written: Path, monkeypatch: pytest.MonkeyPatch, library: str, users: set[str]
) -> None:
    before, versions = fingerprints(written), provenance.versions

    def upgraded(*names: str) -> dict[str, str]:
        return versions(*names) | ({library: "next"} if library in names else {})

    monkeypatch.setattr("edgedistill.stages.versions", upgraded)
    assert {name for name, now in fingerprints(written).items() if now != before[name]} == users


@pytest.mark.parametrize(
    ("room", "users"), [("report", REPORT), ("quantize", QUANTIZE), ("runtimes", EXPORT), ("corpus", ALL)]
)
def test_changed_code_runs_again_what_uses_it(
    written: Path, monkeypatch: pytest.MonkeyPatch, room: str, users: set[str]
) -> None:
    before, code_of = fingerprints(written), provenance.code_of
    monkeypatch.setattr("edgedistill.stages.code_of", lambda *rooms: code_of(*rooms) + "!" * (room in rooms))
    assert {name for name, now in fingerprints(written).items() if now != before[name]} == users


INFRASTRUCTURE = {
    "errors.py", "files.py", "progress.py", "provenance.py", "recipe.py", "recipe_sections.py", "registry.py",
    "results.py", "run.py", "section.py", "student_values.py", "values.py", "agreement.py", "decoder_agreement.py",
    "decoder_values.py",
}  # fmt: skip
MODULES = {
    "corpus": ["corpus/stage.py"],
    "teacher": ["teachers/transformers.py"],
    "augment": ["distill/augment.py"],
    "signals": ["distill/signals.py"],
    "tokens": ["distill/tokens.py"],
    "search": ["distill/search.py"],
    "student": ["distill/stage.py", *(f"models/students/{name}.py" for name in ("layers", "pretrained", "static"))],
    "controls": ["distill/controls.py"],
    "quantize-dynamic_int8": ["quantize/stage.py", "quantize/methods/dynamic_int8.py"],
    "export-onnx": ["export/stage.py", "export/formats/onnx.py", "runtimes/onnxruntime.py"],
    "benchmark": ["benchmark/stage.py", "benchmark/worker.py", "runtimes/onnxruntime.py", "runtimes/pytorch.py"],
    "report": ["report/stage.py"],
}


def imported(files: Iterable[str]) -> set[str]:
    """Return the files of the package that these files import, and those import, however deep."""
    found, left = set(files), list(files)
    while left:
        tree = ast.parse((PACKAGE / left.pop()).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgedistill."):
                place = "/".join((node.module or "").split(".")[1:])
                for name in (f"{place}.py", *(f"{place}/{alias.name}.py" for alias in node.names)):
                    if (PACKAGE / name).exists() and name not in found:
                        found.add(name)
                        left.append(name)
    return found


def uncovered(stages: dict[str, Stage], name: str) -> set[str]:
    """Return the files that a stage runs and that neither its own nor an earlier stage's `code` names."""
    rooms, left = set(INFRASTRUCTURE), [name]
    while left:
        needs = stages[left.pop()].needs
        rooms |= set(needs["code"].split())
        left += needs["after"]
    return {
        file
        for file in imported(MODULES[name])
        if not any(file == room or file.startswith(f"{room}/") for room in rooms)
    }


def test_the_code_of_a_stage_names_all_that_it_runs(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedistill.stages.code_of", lambda *rooms: " ".join(rooms))
    every = written.with_name("every_stage.yaml")
    every.write_text(RECIPE.replace("{epochs: 6", "{search: {}, augment: {}, epochs: 6"), encoding="utf-8")
    stages = pipeline.stages(load(every), every.parent, NEW)
    assert stages.keys() == MODULES.keys()
    assert {name: uncovered(stages, name) for name in stages} == {name: set() for name in stages}
    monkeypatch.setattr(
        "edgedistill.stages.code_of", lambda *rooms: " ".join(room for room in rooms if room != "runtimes")
    )
    assert uncovered(pipeline.stages(load(written), written.parent, NEW), "benchmark"), "a room left out is seen"


def test_another_cpu_runs_again_what_was_rounded_for_it(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def host(*features: str) -> Target:
        return Target("host", "x86_64", 2, None, ("onnxruntime", "pytorch"), frozenset(features), "local")

    found = {}
    for features in (("avx2", "vnni"), ("avx2",), ("avx512", "vnni")):
        monkeypatch.setattr(registry.load("edgedistill.targets", "host"), "target", lambda given=features: host(*given))
        found[features] = fingerprints(written)
    with_vnni, without, other = found.values()
    assert {name for name in with_vnni if without[name] != with_vnni[name]} == QUANTIZE
    assert other == with_vnni, "the same range, and so the same file"


def test_where_it_lies_and_who_asks_does_not_matter(finished: Finished, tmp_path: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path; from edgedistill import pipeline; "
        "from edgedistill.recipe_file import load; from edgedistill.run import Run; file = Path(sys.argv[1]); "
        "stages = pipeline.stages(load(file), file.absolute().parent, Run(Path('no-such-run'))); "
        "print(json.dumps({n: s.fingerprint for n, s in stages.items()}))"
    )
    copy = finished.copied(tmp_path)
    said = [
        subprocess.run(
            [sys.executable, "-c", code, str(file)], cwd=cwd, env=environment(PYTHONHASHSEED=seed), check=True,
            capture_output=True, text=True,
        ).stdout
        for seed, cwd, file in (
            ("1", tmp_path, finished.recipe),
            ("2", finished.out, finished.recipe),
            ("3", copy.recipe.parent, Path(copy.recipe.name)),
        )
    ]  # fmt: skip
    assert [json.loads(text) for text in said] == [fingerprints(finished.recipe)] * 3


LOADED = """
import sys
from edgedistill.__main__ import start
sys.argv[1:] = {arguments}
try: start()
except SystemExit as end: assert not end.code, end.code
print("\\n" + " ".join({{name.partition(".")[0] for name in sys.modules}}))
"""


@pytest.mark.parametrize("verb", ["plan", "build", "export"])
def test_a_plan_and_a_build_that_has_nothing_to_do_load_nothing_heavy(finished: Finished, verb: str) -> None:
    arguments = [verb, str(finished.recipe), "--out", str(finished.out)]
    ran = subprocess.run(
        [sys.executable, "-c", LOADED.format(arguments=arguments)], env=environment(), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    loaded = set(ran.stdout.splitlines()[-1].split())
    assert "pydantic" in loaded
    assert not loaded & {"torch", "transformers", "onnx", "onnxruntime", "datasets", "sklearn", "accelerate", "scipy"}


@pytest.fixture
def unmeasured(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the finished build's measurements instead of measuring again."""

    def benchmark(*_given: Any, folder: Path, **_values: Any) -> BenchmarkResult:
        return BenchmarkResult.load(finished.stage("benchmark"))

    monkeypatch.setattr(benchmarking, "benchmark", benchmark)


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [
        ("licence: MIT\ntask", "budget: {max_file_bytes: 1 MB}\nlicence: MIT\ntask", REPORT),
        ("rounds: 3", "rounds: 4", BENCHMARK),
        ("min_weights: 1", "min_weights: 1, reduced_range: always", QUANTIZE),
    ],
)
@pytest.mark.usefixtures("unmeasured")
def test_a_build_does_what_the_plan_says(
    finished: Finished, tmp_path: Path, old: str, new: str, again: set[str]
) -> None:
    copy = finished.copied(tmp_path).edit((old, new))
    read = load(copy.recipe)
    before = set((copy.run / "stages").iterdir())
    plan = pipeline.plan(read, copy.recipe.parent, copy.out)
    assert {stage.stage for stage in plan if not stage.finished} == again
    assert all(bool(stage.why) is not stage.finished for stage in plan)
    pipeline.build(read, copy.recipe.parent, copy.out)
    assert set((copy.run / "stages").iterdir()) - before == {stage.folder for stage in plan if not stage.finished}
    after = pipeline.plan(read, copy.recipe.parent, copy.out)
    assert all(stage.finished for stage in after)
    assert [stage.folder for stage in after] == [stage.folder for stage in plan]


@pytest.mark.parametrize(
    ("verb", "last"), [("distill", "controls"), ("quantize", "quantize-dynamic_int8"), ("export", "export-onnx")]
)
def test_a_verb_stops_after_its_own_stages(finished: Finished, tmp_path: Path, verb: str, last: str) -> None:
    copy = finished.copied(tmp_path)
    names = [stage.stage for stage in pipeline.plan(load(copy.recipe), copy.recipe.parent, copy.out)]
    copy.without(*names[names.index(last) + 1 :])
    before = contents(copy.run / "stages")
    outcome = pipeline.build(load(copy.recipe), copy.recipe.parent, copy.out, verb)
    assert (outcome.report, outcome.benchmark) == (None, None)
    assert contents(copy.run / "stages") == before


def test_the_measurements_alone_are_given_back_by_their_verb(finished: Finished) -> None:
    outcome = pipeline.build(load(finished.recipe), finished.recipe.parent, finished.out, "bench")
    assert outcome.report is None
    assert outcome.benchmark is not None
    assert {subject.role for subject in outcome.benchmark.subjects} == {"teacher", "teacher_exported", "artifact"}


def test_the_whole_recipe_is_written_out_into_the_run(finished: Finished) -> None:
    whole = finished.run / "recipe.yaml"
    assert "patience: 3" in whole.read_text(encoding="utf-8"), "defaults too"
    assert load(whole) == load(finished.recipe)
    assert f"relative paths start from {finished.recipe.parent}" in whole.read_text(encoding="utf-8")


def test_only_the_sections_that_decide_the_files_are_in_their_hash(written: Path) -> None:
    before = recipe_sha256(load(written))
    changed = written.with_name("changed.yaml")
    for old, new, same in (
        ("calls: 5", "calls: 9", True),
        ("licence: MIT\ntask", "licence: MIT\nbudget: {max_file_bytes: 3 MB}\ntask", True),
        ("licence: MIT\ntask", "licence: BSD-3-Clause\ntask", False),
        ("epochs: 6", "epochs: 5", False),
    ):
        changed.write_text(RECIPE.replace(old, new, 1), encoding="utf-8")
        assert (recipe_sha256(load(changed)) == before) is same


def test_a_teacher_moved_elsewhere_is_the_same_teacher(written: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", rows(400, seed=1))
    file = write_recipe(tmp_path / "deeper" / "still")
    assert fingerprints(file) == fingerprints(written)
