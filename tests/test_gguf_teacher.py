"""A GGUF file that teaches in llama.cpp: what it says, what is kept of it, and a whole build with it."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_pipeline import uncovered
from tiny_decoders import VOCAB, documents, write_decoder, write_gguf

from edgedistill import pipeline
from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.decoder_values import DecoderArtifact, DecoderSignals, DecoderStart, DecoderStudent
from edgedistill.distill.decoder.asking import asked, loaded, read_alike
from edgedistill.distill.decoder.unpacked import written
from edgedistill.errors import ModelError, RecipeError
from edgedistill.files import sha256_of
from edgedistill.models.decoder import load_decoder
from edgedistill.models.gguf_checkpoint import unpack
from edgedistill.models.student import cut_from_codes
from edgedistill.recipe_file import load
from edgedistill.run import Run
from edgedistill.training.language import logits_of_row, rows_of
from edgedistill.training.positions import divergence, log_probabilities
from edgedistill.values import Corpus, Teacher

pytest.importorskip("llama_cpp", reason="llama.cpp runs the teacher; it needs the extra gguf, and a C++ compiler")

RECIPE = """\
name: tiny
licence: MIT
task: {kind: text_generation, max_length: 48, judged_positions: 300, cache: {way: dense}}
teacher: {kind: gguf, licence: Apache-2.0, model: {path: models, file: teacher.gguf}}
data: {train: {source: jsonl, file: train.jsonl, label: null}}
student: {kind: layers, layers: 1}
distill: {epochs: 1, batch_size: 8, learning_rate: 3.0e-3}
quantize: [{method: q8_0}]
benchmark: {rounds: 3, calls: 5, seconds: 0.01, prompt_tokens: 16, decode_tokens: 4}
"""


class Built:
    """A finished build, and its stages' values."""

    def __init__(self, folder: Path, recipe: str, until: str) -> None:
        self.folder, self.file = folder, folder / "tiny.yaml"
        self.file.write_text(recipe, encoding="utf-8")
        pipeline.build(load(self.file), folder, folder / "runs", until=until)
        self.run = Run(folder / "runs" / "tiny")

    def value(self, name: str, kind: Any) -> Any:
        stages = pipeline.stages(load(self.file), self.folder, self.run)
        return kind.load(self.run.folder_of(name, stages[name].needs))


def write_surroundings(folder: Path) -> Path:
    """Write a tiny model as a GGUF file of 8-bit codes, and texts."""
    write_decoder(folder / "floats")
    (folder / "models").mkdir()
    write_gguf(folder / "floats", folder / "models" / "teacher.gguf", stored_as="Q8_0")
    (folder / "models" / "LICENSE").write_text("Licence of the teacher.\n", encoding="utf-8")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in documents(120))
    (folder / "train.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(write_surroundings(tmp_path_factory.mktemp("gguf")), RECIPE, "report")


def apart(one: Any, other: Any, rows: Any) -> float:
    """Return the mean KL of two answers over all positions of some rows."""
    found = []
    for row in rows.counted:
        of_one, of_other = (log_probabilities(said(row.ids)[row.places, :VOCAB]) for said in (one, other))
        found.append(divergence(of_one, of_other))
    return float(np.concatenate(found).mean())


def test_what_the_teacher_says_is_what_its_floats_say_and_not_what_another_model_does(
    built: Built, tmp_path: Path
) -> None:
    teacher, corpus, signals = built.value("teacher", Teacher), built.value("corpus", Corpus), signals_of(built)
    rows, told = rows_of(signals, "validation"), asked(teacher, corpus, load(built.file).task, 1)
    floats = load_decoder(unpack(teacher.path(teacher.gguf), tmp_path / "floats"))
    answer = logits_of_row(floats, torch.device("cpu"))
    assert 0 < apart(told.row, answer, rows) < 0.005, "8-bit activations"
    write_decoder(tmp_path / "other", seed=3)
    assert apart(told.row, logits_of_row(load_decoder(tmp_path / "other"), torch.device("cpu")), rows) > 0.1


def signals_of(built: Built) -> DecoderSignals:
    found: DecoderSignals = built.value("signals", DecoderSignals)
    return found


def test_what_is_kept_of_it_belongs_to_the_very_positions(built: Built) -> None:
    signals, teacher = signals_of(built), built.value("teacher", Teacher)
    told = asked(teacher, built.value("corpus", Corpus), load(built.file).task, 1)
    rows, kept = rows_of(signals, "train"), signals.logits["train"]
    assert kept.way == "dense"
    log_probs = np.load(signals.path(kept.weights)).reshape(rows.counted.positions, VOCAB)
    for row in (rows.counted.row(0), rows.counted.row(len(rows.tokens) - 1)):
        expected = log_probabilities(told.row(row.ids)[row.places, :VOCAB])
        np.testing.assert_allclose(log_probs[row.positions], expected, atol=0.01)
    reference = np.load(signals.path(signals.reference["test"])).astype(np.float64)
    test = rows_of(signals, "test").counted
    row = test.row(len(test.offsets) - 2)
    np.testing.assert_allclose(
        reference[row.positions], log_probabilities(told.row(row.ids)[row.places, :VOCAB]), atol=0.01
    )


def test_only_the_positions_that_count_are_computed(built: Built) -> None:
    teacher = built.value("teacher", Teacher)
    told = asked(teacher, built.value("corpus", Corpus), load(built.file).task, 1)
    rows = rows_of(signals_of(built), "train")
    batch = np.array([2, 0, 5])
    whole = np.concatenate([told.row(row.ids)[row.places] for row in (rows.counted.row(int(n)) for n in batch)])
    np.testing.assert_allclose(told.positions(rows, batch, None).numpy(), whole, atol=1e-5)


def test_the_teacher_is_the_file_itself(built: Built) -> None:
    teacher, source = built.value("teacher", Teacher), built.folder / "models" / "teacher.gguf"
    assert teacher.weights_sha256 == teacher.source_weights_sha256 == sha256_of(source)
    assert teacher.source == "models/teacher.gguf"
    assert not list(teacher.folder.rglob("*.safetensors")), "nothing was made floats to ask it"
    whole = load_decoder(built.folder / "floats")
    assert teacher.parameters == sum(one.numel() for one in whole.parameters())
    assert teacher.weights_bytes < 1.2 * teacher.parameters
    outline = json.loads((teacher.path(teacher.checkpoint) / "config.json").read_text(encoding="utf-8"))
    start = built.value("start", DecoderStart)
    unpacked = json.loads((start.path(start.unpacked.checkpoint) / "config.json").read_text(encoding="utf-8"))
    assert {**outline, "dtype": None} == {**unpacked, "dtype": None}


def test_a_student_that_is_cut_out_of_it_starts_from_its_floats(built: Built) -> None:
    start, student = built.value("start", DecoderStart), built.value("student", DecoderStudent)
    assert 0 < start.unpacked.kl < 0.005
    assert start.unpacked.agreement > 0.9
    assert start.unpacked.positions > 0
    assert student.training.steps > 0
    assert student.evaluation.quality["test"].kl_teacher.value > 0


def test_the_file_is_measured_as_the_teacher_and_laid_out_no_second_time(built: Built) -> None:
    measured, artifact = built.value("benchmark", DecoderBenchmark), built.value("export-gguf", DecoderArtifact)
    assert artifact.teacher is None
    assert [one.name for one in measured.subjects] == ["teacher", "gguf.float32", "gguf.q8_0"]
    teacher, *others = measured.subjects
    assert (teacher.runtime, teacher.scheme, teacher.title) == ("llama_cpp", "Q8_0", "teacher, GGUF Q8_0")
    assert teacher.sha256 == sha256_of(built.folder / "models" / "teacher.gguf")
    assert teacher.model_bytes == (built.folder / "models" / "teacher.gguf").stat().st_size
    assert not measured.validity.wrong
    said = signals_of(built).evaluation.quality["test"]
    assert teacher.quality["test"].perplexity.value == pytest.approx(said.perplexity.value, rel=1e-4)
    assert all(one.speedup_exported is None and one.speedup.decode.median > 0 for one in others)


def test_report_card_and_notice_say_what_taught(built: Built) -> None:
    digest = sha256_of(built.folder / "models" / "teacher.gguf")
    report = (built.run.root / "report.md").read_text(encoding="utf-8")
    page = (built.run.root / "report.html").read_text(encoding="utf-8")
    assert "The teacher's numbers are of its Q8\\_0 file in llama.cpp" in report
    assert "ratios are to the teacher in llama.cpp" in report
    for said in ("taught as the GGUF file that it is (Q8_0)", "weights as floats", "ratios to it stand above", digest):
        assert said in page, said
    shipped = built.run.root / "artifacts" / "tiny-0.1.0-gguf"
    for name in ("NOTICE", "README.md"):
        text = (shipped / name).read_text(encoding="utf-8")
        assert "models/teacher.gguf" in text
        assert digest in text
    assert (shipped / "teacher-LICENSE").read_text(encoding="utf-8") == "Licence of the teacher.\n"


def test_a_tokenizer_that_reads_otherwise_than_llama_cpp_is_seen(built: Built) -> None:
    teacher, corpus = built.value("teacher", Teacher), built.value("corpus", Corpus)
    task = load(built.file).task
    signals = signals_of(built)
    assert signals.read_alike.corpus_texts > 100
    assert signals.read_alike.odd_texts > 20
    talking = task.model_copy(update={"conversations": True})
    decoder = loaded(teacher, 48, threads=1)
    spoken: Any = SimpleNamespace(splits={})  # no text of a corpus: what every template is asked
    assert read_alike(teacher, decoder, spoken, talking).conversations == 3

    class Other:
        def encode(self, text: str, *, special: bool) -> Sequence[int]:
            return [*text.encode("utf-8")]

    with pytest.raises(ModelError, match=r"do not read alike: .*choose teacher\.kind: transformers"):
        read_alike(teacher, Other(), corpus, task)


def test_floats_of_another_file_are_no_start(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_decoder(tmp_path / "other", seed=3)
    write_gguf(tmp_path / "other", tmp_path / "other.gguf")
    (tmp_path / "progress").mkdir()
    monkeypatch.setattr(
        "edgedistill.distill.decoder.unpacked.unpack", lambda _file, folder: unpack(tmp_path / "other.gguf", folder)
    )
    with pytest.raises(ModelError, match=r"say something else in PyTorch than in llama\.cpp: KL divergence"):
        written(built.value("teacher", Teacher), load(built.file).task, built.value("corpus", Corpus), tmp_path)


STUDENTS = (
    ("{kind: layers, layers: 1}", True),
    ("{kind: pruned, layers: 1}", True),
    ("{kind: pretrained, licence: MIT, model: {path: small}}", False),
    ("{kind: pretrained, licence: MIT, model: {path: small}, vocabulary: {min_count: 2}}", True),
)


@pytest.mark.parametrize(("student", "cut"), STUDENTS)
def test_floats_are_written_only_for_what_is_cut_out_of_them(built: Built, student: str, cut: bool) -> None:
    file = built.folder / "other.yaml"
    write_decoder(built.folder / "small", layers=1, seed=5)
    text = RECIPE.replace("{kind: layers, layers: 1}", student)
    for kind, expected in (("gguf", cut), ("transformers", False)):
        file.write_text(text.replace("kind: gguf", f"kind: {kind}"), encoding="utf-8")
        recipe = load(file)
        assert cut_from_codes(recipe.student, recipe.teacher) == expected
        stages = pipeline.stages(recipe, built.folder, built.run)
        assert ("start" in stages) == (expected or "layers, layers" not in student)
        if "tokens" in stages:
            assert "start" in stages["tokens"].needs["after"]


def test_whether_floats_are_written_decides_what_a_student_starts_from(built: Built) -> None:
    write_decoder(built.folder / "small", layers=1, seed=5)
    file, starts = built.folder / "other.yaml", {}
    for kind in ("gguf", "transformers"):
        for student, _ in STUDENTS[2:]:
            text = RECIPE.replace("{kind: layers, layers: 1}", student).replace("kind: gguf", f"kind: {kind}")
            file.write_text(text, encoding="utf-8")
            stages = pipeline.stages(load(file), built.folder, built.run)
            starts.setdefault(kind, set()).add(stages["start"].fingerprint)
    assert {kind: len(found) for kind, found in starts.items()} == {"gguf": 2, "transformers": 1}


def test_the_code_of_a_stage_names_what_its_teacher_runs_in(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "teacher": "teachers/gguf.py", "start": "distill/decoder/start.py", "signals": "distill/decoder/signals.py",
    }  # fmt: skip
    monkeypatch.setattr("edgedistill.stages.code_of", lambda *rooms: " ".join(rooms))
    monkeypatch.setattr("test_pipeline.MODULES", {name: [file] for name, file in files.items()})
    named = pipeline.stages(load(built.file), built.folder, Run(built.folder / "none"))
    assert {name: uncovered(named, name) for name in files} == {name: set() for name in files}
    assert all("runtimes" in named[name].needs["code"].split() for name in files)
    assert all("llama-cpp-python" in named[name].needs["versions"] for name in files)


def test_pruned_students_and_kept_tokens_come_out_of_the_floats(tmp_path: Path) -> None:
    write_surroundings(tmp_path)
    pruned = "student: {kind: pruned, layers: 1, intermediate_size: 64, vocabulary: {size: 300}}"
    text = RECIPE.replace("student: {kind: layers, layers: 1}", pruned).replace(
        "distill: {", "distill: {controls: false, "
    )
    built = Built(tmp_path, text, "distill")
    start, signals = built.value("start", DecoderStart), signals_of(built)
    assert start.importance.keys() == {"checkpoint"}
    assert signals.vocabulary < signals.whole.size == VOCAB
    assert 0 < signals.logits["train"].moved_mass < 1
    assert built.value("student", DecoderStudent).evaluation.quality["test"].kl_teacher.value > 0


def test_a_file_has_no_precision_to_choose(tmp_path: Path) -> None:
    text = RECIPE.replace("cache: {way: dense}", "cache: {way: dense, mixed_precision: bf16}")
    (tmp_path / "tiny.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"task\.cache\.mixed_precision: 'bf16' is for checkpoints, and a teacher of"):
        load(tmp_path / "tiny.yaml")
