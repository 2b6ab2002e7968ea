import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from tiny_artifact import LABELS, texts, write_checkpoint, write_onnx

from edgedistill.benchmark import process, stage
from edgedistill.benchmark.subjects import Candidate, candidates
from edgedistill.errors import StageError
from edgedistill.files import sha256_of, sha256_of_text, sha256_of_tree, size_of
from edgedistill.recipe_sections import BenchmarkOptions
from edgedistill.results import BenchmarkResult
from edgedistill.runtimes import onnxruntime
from edgedistill.runtimes._model import LoadedModel, in_length_order
from edgedistill.values import (
    Artifact,
    Baseline,
    Controls,
    Corpus,
    Evaluation,
    Parity,
    ParityCheck,
    QuantizedModel,
    Signals,
    SignalSplit,
    Split,
    StageValue,
    Student,
    Teacher,
    Training,
    Variant,
)

V = TypeVar("V", bound=StageValue)
SHA = "0" * 64
TEXTS = {"test": texts(120), "challenge.other": texts(60, seed=1)}
OPTIONS = BenchmarkOptions(rounds=3, calls=22, seconds=0.01)


def place(value: V, folder: Path) -> V:
    """Return the value as a later stage finds it in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(value.model_dump_json(), encoding="utf-8")
    return type(value).load(folder)


def evaluation(folder: Path, logits: Callable[[str], np.ndarray]) -> Evaluation:
    folder.mkdir(parents=True, exist_ok=True)
    for split in TEXTS:
        np.save(folder / f"{split}.npy", logits(split))
    return Evaluation(outputs={split: f"{split}.npy" for split in TEXTS}, metrics={})


def make_corpus(folder: Path) -> Corpus:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    splits = {}
    for split, rows in TEXTS.items():
        hashes = [sha256_of_text(text)[:16] for text in rows]
        columns = {"text": rows, "label": [i % 2 for i in range(len(rows))], "row_hash": hashes}
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
        splits[split] = Split(
            file=f"{split}.parquet", rows=len(rows), labelled_rows=len(rows), label_counts={},
            exact_duplicates_removed=0, near_duplicates_removed=0, conflicting_rows_removed=0, empty_rows_removed=0,
            sha256=SHA,
        )  # fmt: skip
    return place(Corpus(labels=LABELS, splits=splits, overlaps=(), near_duplicate_rule="", sources={}), folder)


def make_teacher(folder: Path) -> Teacher:
    checkpoint = folder / "checkpoint"
    write_checkpoint(checkpoint)
    weights = list(checkpoint.glob("*.safetensors"))
    teacher = Teacher(
        kind="transformers", source="made in code", revision=None, licence="MIT", task="text_classification",
        labels=LABELS, signals={"logits"}, checkpoint="checkpoint", base=None,
        weights_sha256=sha256_of_tree(checkpoint, weights), source_weights_sha256=SHA, parameters=1,
        weights_bytes=size_of(checkpoint), fit_method=None, fit=None,
    )  # fmt: skip
    return place(teacher, folder)


def make_signals(folder: Path, model: LoadedModel) -> Signals:
    folder.mkdir()
    splits = {}
    for split, rows in TEXTS.items():
        lengths = [int(model.encode([text])["attention_mask"].sum()) for text in rows]
        files = {part: f"{split}.{part}.npy" for part in ("token_ids", "offsets", "row_hashes", "outputs", "labels")}
        np.save(folder / files["offsets"], np.cumsum([0, *lengths]), 0)
        np.save(folder / files["outputs"], in_length_order(model, rows, 16))
        np.save(folder / files["labels"], np.arange(len(rows)) % 2)
        splits[split] = SignalSplit(rows=len(rows), **files)
    made = Signals(
        task="text_classification",
        width=len(LABELS),
        splits=splits,
        tokenizer_sha256=SHA,
        pad_token_id=0,
        teacher_weights_sha256=SHA,
        metrics={},
        seconds=1,
        rows=180,
    )
    return place(made, folder)


def make_student(folder: Path, model: LoadedModel) -> Student:
    trained = Training(curve=(), best_epoch=1, steps=1, seconds=1, rows=1, seed=0, device="cpu", threads=1)
    student = Student(
        kind="static", checkpoint="checkpoint", initialised_from="nothing", parameters=1, weights_bytes=1,
        flops_per_token=1, training=trained, preflight=(),
        evaluation=evaluation(folder, lambda split: in_length_order(model, TEXTS[split], 16)), weights_sha256=SHA,
        size_warnings=(),
    )  # fmt: skip
    return place(student, folder)


def make_artifact(folder: Path) -> Artifact:
    check = ParityCheck(max_abs_diff=0, tolerance=None, top1_agreement=1, inputs=1, worst="none")
    proof = Parity(exact=check, deployed=check, weights_bit_equal=True, tokenizer_texts=1)

    def variant(name: str, scheme: str, root: str, file: str, *, int8: bool = False, seed: int = 0) -> Variant:
        written = write_onnx(folder / root, file, int8=int8, seed=seed)
        return Variant(
            name=name, scheme=scheme, file=file, sha256=sha256_of(written), size_bytes=written.stat().st_size,
            opset=17, ir_version=9, exporter="by hand", exporters_refused=(), parity=proof,
        )  # fmt: skip

    artifact = Artifact(
        format="onnx",
        runtime="onnxruntime",
        root="tiny",
        variants=(
            variant("float32", "float32", "tiny", "onnx/model.onnx"),
            variant("dynamic_int8", "int8_dynamic", "tiny", "onnx/model_quantized.onnx", int8=True),
        ),
        shared_files={},
        shared_bytes=1000,
        teacher=variant("float32", "float32", "teacher", "onnx/model.onnx", seed=7),
        teacher_root="teacher",
        recipe_sha256=SHA,
    )
    return place(artifact, folder)


def make_all(root: Path, teacher_model: Callable[[Teacher, Artifact], LoadedModel]) -> dict[str, Any]:
    """Return what the stage is given; `teacher_model` says whose answers are the teacher's."""
    teacher, artifact = make_teacher(root / "teacher"), make_artifact(root / "artifact")
    student_model = onnxruntime.load(artifact.path(artifact.root), "onnx/model.onnx", threads=1)
    student = make_student(root / "student", student_model)
    first = np.array([1, 0], np.float32)
    majority = evaluation(root / "controls", lambda split: np.tile(first, (len(TEXTS[split]), 1)))
    controls = Controls(
        baselines=(Baseline(name="majority", description="the commonest class", evaluation=majority),),
        no_teacher=None, no_teacher_training=None, no_teacher_initialised_from=None, repeats=(),
        skipped="not trained here",
    )  # fmt: skip
    simulated = QuantizedModel(
        method="dynamic_int8", scheme="int8_dynamic", tensors=(), weights="w", weights_bytes=1, weights_sha256=SHA,
        reduced_range=False, reduced_range_reason="",
        evaluation=evaluation(root / "quantized", lambda split: in_length_order(student_model, TEXTS[split], 16)),
    )  # fmt: skip
    return {
        "corpus": make_corpus(root / "corpus"),
        "teacher": teacher,
        "signals": make_signals(root / "signals", teacher_model(teacher, artifact)),
        "student": student,
        "controls": place(controls, root / "controls"),
        "quantized": {"dynamic_int8": place(simulated, root / "quantized")},
        "artifacts": {"onnx": artifact},
    }


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run whose teacher answers as its ONNX file does, so that no test need import torch again and again."""

    def exported(_: Teacher, artifact: Artifact) -> LoadedModel:
        assert artifact.teacher_root is not None
        return onnxruntime.load(artifact.path(artifact.teacher_root), "onnx/model.onnx", threads=1)

    return make_all(tmp_path_factory.mktemp("run"), exported)


def light(teacher: Teacher, artifacts: dict[str, Artifact]) -> tuple[Candidate, ...]:
    """Return the candidates with the teacher run through its ONNX file."""
    first, exported, *rest = candidates(teacher, artifacts)
    no_weights = sha256_of_tree(exported.root, [])
    return (replace(exported, name=first.name, title=first.title, role=first.role, sha256=no_weights), exported, *rest)


def run(given: dict[str, Any], folder: Path, options: BenchmarkOptions = OPTIONS) -> BenchmarkResult:
    folder.mkdir(parents=True, exist_ok=True)
    return stage.benchmark(options, **given, folder=folder)


@pytest.fixture(scope="module")
def measured(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchmarkResult, Path]:
    """One undisturbed benchmark."""
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "candidates", light)
        return run(given, folder), folder


def replay(measured: tuple[BenchmarkResult, Path], patch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Let timing give what `measured` saw, in no time; return the list of jobs as they are asked for."""
    found, folder = measured
    names = {subject.title: subject.name for subject in found.subjects}
    seen = json.loads((folder / "rounds" / "round_1.json").read_text(encoding="utf-8"))
    asked: list[tuple[str, str]] = []

    def answer(job: Any, what: str, really: Callable[..., dict[str, Any]] = process.run) -> dict[str, Any]:
        asked.append((job.KIND, what))
        return really(job, what) if job.KIND == "answers" else seen[names[what]]

    patch.setattr(stage, "candidates", light)
    patch.setattr(process, "run", answer)
    return asked


def test_teacher_and_artifacts_are_measured_side_by_side(measured: tuple[BenchmarkResult, Path]) -> None:
    found, _ = measured
    assert [subject.name for subject in found.subjects] == [
        "teacher",
        "teacher.onnx",
        "onnx.float32",
        "onnx.dynamic_int8",
    ]
    assert [(step.before, step.after) for step in found.waterfall] == [
        ("teacher", "student"),
        ("student", "onnx.float32"),
        ("onnx.float32", "onnx.dynamic_int8"),
    ]
    teacher, exported, float32, int8 = found.subjects
    assert found.splits == ("test", "challenge.other")
    assert found.waterfall[1].differences["test"].value == 0, "the student answers through its own exported file here"
    assert int8.quality["test"].metric.n == 120
    assert exported.quality == {}
    assert teacher.quality["test"].retained is not None
    assert teacher.quality["test"].retained.value == 1
    assert all(subject.outputs_checked for subject in found.subjects)
    assert float32.shipped_bytes == float32.model_bytes + 1000
    for subject in found.subjects:
        assert [result.workload for result in subject.workloads] == list(subject.speedup)
        assert all(result.latency.count >= 3 * 22 and result.latency.p90_s for result in subject.workloads)
        assert subject.memory.imported_median_bytes < subject.memory.peak_median_bytes <= subject.memory.peak_max_bytes
    assert {ratio.median for ratio in teacher.speedup.values()} == {1}
    assert [subject.name for subject in found.subjects if subject.speedup_float] == ["onnx.dynamic_int8"]
    for result in float32.workloads:
        own = next(one for one in int8.workloads if one.workload == result.workload)
        pairs = zip(result.round_p50_s, own.round_p50_s, strict=True)
        ratios = sorted(slow_s / quick_s for slow_s, quick_s in pairs)
        given = int8.speedup_float[result.workload]
        assert (given.low, given.median, given.high) == pytest.approx((ratios[0], ratios[1], ratios[2]))
    load_of_this_machine = ("waited for a CPU", "other guests took", "was on a CPU", "rounds of batch")
    assert not [told for told in found.validity.reasons if not any(words in told for words in load_of_this_machine)]
    assert BenchmarkResult.model_validate_json(found.model_dump_json()) == found
    assert found.controls[0].control == "majority"
    assert found.simulated_quality["dynamic_int8"]["test"].student_flips == 0


def test_every_raw_sample_and_every_logit_is_kept(measured: tuple[BenchmarkResult, Path]) -> None:
    found, folder = measured
    kept = [json.loads((folder / "rounds" / f"round_{n}.json").read_text(encoding="utf-8")) for n in (1, 2, 3)]
    for subject in found.subjects:
        for result in subject.workloads:
            samples = [ns for samples in kept for ns in samples[subject.name]["workloads"][result.workload]["whole_ns"]]
            assert len(samples) == result.latency.count
            assert np.median(samples) * 1e-9 == pytest.approx(result.latency.p50_s)
    logits = np.load(folder / "answers" / "onnx.dynamic_int8" / "test.npy")
    assert (logits.argmax(axis=1) == np.arange(120) % 2).mean() == pytest.approx(
        found.subjects[3].quality["test"].metric.value
    )
    assert not (folder / "progress" / "answers").exists()


def test_an_interrupted_benchmark_keeps_its_answers_and_measures_time_anew(
    given: dict[str, Any],
    tmp_path: Path,
    measured: tuple[BenchmarkResult, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = replay(measured, monkeypatch)
    replayed = process.run

    def interrupted(job: Any, what: str) -> dict[str, Any]:
        if len(asked) == 7:
            raise KeyboardInterrupt
        return replayed(job, what)

    with monkeypatch.context() as patch:
        patch.setattr(process, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(given, tmp_path)
    assert [kind for kind, _ in asked] == ["answers"] * 2 + ["latency"] * 5
    (tmp_path / "rounds" / "round_9.json").write_text("{}", encoding="utf-8")
    found = run(given, tmp_path)
    assert [kind for kind, _ in asked[7:]] == ["latency"] * 12, "answers are found again, times are not"
    assert [what for _, what in asked[7:]] == [subject.title for subject in found.subjects] * 3, "A B C D, A B C D"
    assert len(list((tmp_path / "rounds").iterdir())) == 3
    run(given, tmp_path)
    assert [kind for kind, _ in asked[19:]] == ["latency"] * 12, "as when it was interrupted at its very end"


def test_a_file_that_is_not_the_exported_one_is_told(
    given: dict[str, Any],
    tmp_path: Path,
    measured: tuple[BenchmarkResult, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    artifact = given["artifacts"]["onnx"]
    float32, int8 = artifact.variants
    other = artifact.model_copy(update={"variants": (float32, int8.model_copy(update={"sha256": "f" * 64}))})
    replay(measured, monkeypatch)
    found = run({**given, "artifacts": {"onnx": place(other, artifact.folder)}}, tmp_path)
    place(artifact, artifact.folder)
    assert not found.validity.valid
    (told,) = [reason for reason in found.validity.reasons if "not the exported one" in reason]
    assert told.startswith(found.subjects[3].title)


def test_a_teacher_that_answers_otherwise_than_its_cached_logits_is_told(
    given: dict[str, Any],
    tmp_path: Path,
    measured: tuple[BenchmarkResult, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(given["signals"].folder, tmp_path / "signals")
    logits = tmp_path / "signals" / "test.outputs.npy"
    np.save(logits, np.load(logits) + 0.1)
    replay(measured, monkeypatch)
    found = run({**given, "signals": Signals.load(tmp_path / "signals")}, tmp_path / "benchmark")
    told = [reason for reason in found.validity.reasons if "gave other answers" in reason]
    assert [reason.partition(":")[0] for reason in told] == [subject.title for subject in found.subjects[:2]]


@pytest.mark.parametrize("name", ["teacher", "teacher.onnx", "onnx.float32", "onnx.dynamic_int8"])
def test_a_timed_run_that_answers_otherwise_than_quality_was_measured_is_told(
    name: str,
    given: dict[str, Any],
    tmp_path: Path,
    measured: tuple[BenchmarkResult, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (title,) = [subject.title for subject in measured[0].subjects if subject.name == name]
    shutil.copytree(measured[1] / "answers", tmp_path / "answers")
    asked = replay(measured, monkeypatch)
    replayed = process.run

    def last_round_tampered(job: Any, what: str) -> dict[str, Any]:
        answer = replayed(job, what)
        if asked.count(("latency", title)) == OPTIONS.rounds and what == title:
            answer = copy.deepcopy(answer)
            answer["workloads"]["batch_8_long"]["logits"][-1][-1][-1] += 0.1
        return answer

    monkeypatch.setattr(process, "run", last_round_tampered)
    found = run(given, tmp_path)
    assert {subject.name: subject.outputs_checked for subject in found.subjects} == {
        subject.name: subject.name != name for subject in found.subjects
    }
    assert not found.validity.valid
    told = [reason for reason in found.validity.reasons if "gave other answers" in reason]
    assert [reason.partition(":")[0] for reason in told] == [title]


def test_a_target_that_is_not_this_machine_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    host = stage._target("host")
    foreign = "arm64" if host.arch == "x86_64" else "x86_64_avx2"
    with pytest.raises(StageError, match=f"target {foreign} cannot be measured here: this machine is {host.arch}, not"):
        run(given, tmp_path, OPTIONS.model_copy(update={"target": foreign}))


@pytest.mark.slow
def test_the_teacher_is_measured_in_pytorch(tmp_path: Path) -> None:
    from edgedistill.runtimes import pytorch

    given = make_all(tmp_path, lambda teacher, _: pytorch.load(teacher.path(teacher.checkpoint), threads=1))
    found = run(given, tmp_path / "benchmark")
    teacher = found.subjects[0]
    assert (teacher.runtime, teacher.scheme, teacher.outputs_checked) == ("pytorch", "float32", True)
    assert teacher.kernels["Linear"] >= 12
    assert teacher.memory.imported_median_bytes > 100e6
    assert not [reason for reason in found.validity.reasons if teacher.title in reason and "exported" in reason]
