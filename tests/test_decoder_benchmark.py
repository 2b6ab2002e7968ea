"""Measuring language models: what is timed, in which process, and what the numbers add up to."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_decoders import VOCAB, documents, write_decoder, write_gguf

from edgedistill.benchmark import process
from edgedistill.benchmark.decoder import measure, quality, rounds, worker
from edgedistill.benchmark.decoder.jobs import Load, Passes, PositionsJob, SpeedAnswer, SpeedJob, SplitFiles, Tops
from edgedistill.benchmark.subjects import Candidate
from edgedistill.errors import StageError
from edgedistill.models.load import load_tokenizer
from edgedistill.runtimes import pytorch_decoder
from edgedistill.targets import host
from edgedistill.training.counted_rows import CountedRows
from edgedistill.training.positions import positions_of, write_reference

PROMPT, DECODE = 24, 6
HEAVY = {"torch", "transformers", "pydantic", "onnx", "rich", "datasets", "pandas", "sklearn"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("decoder")
    write_decoder(root)
    return root


@pytest.fixture(scope="module")
def split(checkpoint: Path) -> CountedRows:
    encoded = [load_tokenizer(checkpoint)(text)["input_ids"] for text in documents(12)]
    counts = np.concatenate([np.arange(len(ids)) > 0 for ids in encoded])
    return CountedRows(np.concatenate(encoded).astype(np.int32), np.cumsum([0, *map(len, encoded)]), counts)


@pytest.fixture
def passes(split: CountedRows) -> Passes:
    return rounds.choose(split.ids, PROMPT, DECODE)


class Recorder:
    """A decoder that writes down what it is asked, and whose likeliest token is how many it has read."""

    vocabulary, context_tokens, threads, begin, ends = 200, 100, 1, (), frozenset({0})

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.read: list[int] = []

    def encode(self, text: str, *, special: bool) -> list[int]:
        self.asked.append(("encode", text, special))
        return [1]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        self.asked.append(("prefill", tuple(ids)))
        self.read += ids
        return np.eye(1, self.vocabulary, len(self.read), dtype=np.float32)[0] * len(self.read)

    def step(self, token: int) -> np.ndarray:
        self.asked.append(("step", token))
        self.read.append(token)
        return np.eye(1, self.vocabulary, len(self.read), dtype=np.float32)[0] * len(self.read)

    def reset(self) -> None:
        self.read = []


def test_a_pass_is_a_prompt_and_then_the_given_tokens_from_an_empty_cache() -> None:
    decoder: Any = Recorder()
    passes = Passes([[5, 6, 7, 8, 9], [15, 16, 17, 18, 19]], prompt_tokens=3)
    measure.warm_up(decoder, passes)
    assert decoder.asked
    assert not decoder.read, "nothing of it is left"
    decoder.asked.clear()
    samples = measure.measure(decoder, passes, calls=5, seconds=0.0)
    cycle = [
        *[("encode", "5 6 7", True), ("prefill", (5, 6, 7)), ("step", 8), ("step", 9)],
        *[("encode", "15 16 17", True), ("prefill", (15, 16, 17)), ("step", 18), ("step", 19)],
    ]
    assert decoder.asked == cycle * 3, "whole cycles, at least five passes"
    assert samples.encode_ns.shape == samples.prefill_ns.shape == (6,)
    assert samples.step_ns.shape == (6, 2)
    assert (samples.step_ns > 0).all()
    assert samples.tops == Tops([[3, 4, 5]] * 2, [[3.0, 4.0, 5.0]] * 2)
    assert measure.answer(decoder, passes) == samples.tops


@pytest.mark.parametrize("length", [1, 29, 30, 31, 500])
def test_rows_are_cut_out_of_the_split_evenly(length: int) -> None:
    ids = np.arange(length)
    passes = rounds.choose(ids, PROMPT, DECODE)
    assert [len(row) for row in passes.rows] == [PROMPT + DECODE] * rounds.ROWS
    assert passes.decode_tokens == DECODE
    assert passes == rounds.choose(ids, PROMPT, DECODE)
    for row in passes.rows:
        assert (np.diff(row) % length == 1 % length).all(), "tokens that follow each other in the text"
    if length == 500:
        assert passes.rows[0][0] == 0
        assert passes.rows[-1][-1] == 499


def test_an_empty_split_cannot_be_timed() -> None:
    with pytest.raises(StageError, match="no token to time a model with"):
        rounds.choose(np.empty(0, np.int32), PROMPT, DECODE)


def file_of(runtime: str, root: Path) -> str:
    if runtime == "pytorch_decoder":
        return ""
    pytest.importorskip("llama_cpp", reason="its bindings are an extra")
    return write_gguf(root, root / "model.gguf").name


RUNTIMES = ["llama_cpp", "pytorch_decoder"]


def load_of(runtime: str, root: Path, context_tokens: int = 128) -> Load:
    return Load(runtime, str(root), file_of(runtime, root), threads=1, context_tokens=context_tokens)


def files_of(split: CountedRows, checkpoint: Path, folder: Path) -> SplitFiles:
    """Write a split and the reference of its own model; return the files."""
    names = ("token_ids", "offsets", "counts", "teacher", "student", "positions")
    files = {name: str(folder / f"{name}.npy") for name in names} | {"student": ""}
    for name, part in (("token_ids", split.ids), ("offsets", split.offsets), ("counts", split.counts)):
        np.save(files[name], part)
    here = pytorch_decoder.load(checkpoint, threads=1, context_tokens=128)
    write_reference(here.logits, split, VOCAB, Path(files["teacher"]), folder / "own.npy", folder, "test")
    return SplitFiles(**files)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_fresh_process_times_the_model_whose_quality_another_one_measures(
    runtime: str, checkpoint: Path, split: CountedRows, passes: Passes, tmp_path: Path
) -> None:
    load = load_of(runtime, checkpoint)
    found = SpeedAnswer.read(process.run(SpeedJob(load, passes, calls=6, seconds=0.01), "tiny"))
    assert len(found.encode_ns) == len(found.prefill_ns) == len(found.step_ns) >= 6
    assert len(found.step_ns) % len(passes.rows) == 0
    assert {len(steps) for steps in found.step_ns} == {DECODE}
    assert np.median(found.prefill_ns) > np.median(found.step_ns), "24 tokens take longer than one"
    assert 0 < found.load_s < 60
    assert 10e6 < found.imported_bytes < found.peak_bytes
    assert found.threads == 1
    number_bytes = {"llama_cpp": 2, "pytorch_decoder": 4}[runtime]
    assert found.kv_cache_bytes == 2 * 2 * (PROMPT + DECODE) * 2 * 16 * number_bytes, "2 layers, 2 heads of 16"
    assert found.noise.wall_s >= (sum(found.prefill_ns) + sum(map(sum, found.step_ns))) * 1e-9
    if runtime == "llama_cpp":
        assert found.peak_bytes < 200e6, "an app, and not a training environment"
    files = files_of(split, checkpoint, tmp_path)
    asked = PositionsJob(load, passes, VOCAB, {"test": files})
    fresh = runtime == "llama_cpp"  # one that imports PyTorch is slow to start
    said = Tops(**process.run(asked, "tiny")) if fresh else worker.positions(asked)
    assert said == found.tops
    positions = np.load(files.positions)
    here = pytorch_decoder.load(checkpoint, threads=1, context_tokens=128)
    expected = positions_of(here.logits, split, VOCAB)
    assert np.abs(positions["log_prob"] - expected["log_prob"]).max() < 0.02
    assert (positions["top"] == expected["top"]).mean() > 0.97
    assert positions["kl_teacher"].mean() < 1e-4
    assert np.isnan(positions["kl_student"]).all()


def modules_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    ran = subprocess.run(
        [sys.executable, "-P", "-c", script], env=process.environment(1), capture_output=True, text=True, check=True
    )
    return set(ran.stdout.split())


def test_the_measuring_process_imports_its_runtime_and_nothing_heavy() -> None:
    pytest.importorskip("llama_cpp", reason="its bindings are an extra")
    begin = "import edgedistill.benchmark.decoder.worker; from edgedistill.runtimes import"
    found = modules_after(f"{begin} llama_cpp as runtime; runtime.versions()")
    assert {"llama_cpp", "numpy"} <= found
    assert not found & HEAVY
    assert "torch" in modules_after(f"{begin} pytorch_decoder as runtime; runtime.versions()"), "the check can fail"


def test_a_runtime_is_cheap_to_import() -> None:
    found = modules_after("from edgedistill.runtimes import llama_cpp, pytorch_decoder")
    assert not found & {*HEAVY, "llama_cpp"}


FAKE = """
import os
import numpy as np

from edgedistill.errors import ModelError


class Decoder:
    vocabulary, begin, ends = 9, (), frozenset()

    def __init__(self, threads, context_tokens):
        self.threads, self.context_tokens, self.read = threads, context_tokens, 0

    def encode(self, text, *, special):
        return [1]

    def decode(self, ids):
        return "text"

    def logits(self, ids):
        if len(ids) > self.context_tokens:
            raise ModelError("too long")
        return np.tile(np.arange(9, dtype=np.float32), (len(ids), 1))

    def prefill(self, ids):
        self.read += len(ids)
        return np.full(9, self.read, dtype=np.float32)

    def step(self, token):
        return self.prefill([token])

    def reset(self):
        self.read = 0

    def kv_cache_bytes(self, tokens):
        return 10 * tokens


def versions():
    return {"fake": "1"}


def load(root, file, *, threads, context_tokens, exact=False):
    with open(root / "loads.txt", "a") as out:
        print(file, threads, context_tokens, os.environ["OMP_NUM_THREADS"], file=out)
    return Decoder(threads, context_tokens)
"""
"""A runtime that notes each load."""


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Candidate]:
    (tmp_path / "fake.py").write_text(FAKE, encoding="utf-8")
    begin = f"import edgedistill.runtimes as runtimes; runtimes.__path__.append({str(tmp_path)!r})"
    script = f"{begin}; from edgedistill.benchmark.decoder import worker; worker.main()"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-P", "-c", script))
    one = Candidate("a", "model a", "artifact", "fake", tmp_path, "a.gguf", "float32", "0" * 64, 1, 1)
    return [one, replace(one, name="b", title="model b", file="b.gguf")]


def loads(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "loads.txt").read_text(encoding="utf-8").splitlines()]


def test_rounds_take_turns_and_each_process_has_the_threads_that_were_asked(
    fakes: list[Candidate], tmp_path: Path
) -> None:
    passes = Passes([[1, 2, 3, 4]], prompt_tokens=3)
    folder = tmp_path / "rounds"
    found = rounds.measure_rounds(fakes, passes, threads=2, rounds=2, calls=3, seconds=0.0, folder=folder)
    assert loads(tmp_path) == [[name, "2", "4", "2"] for name in ("a.gguf", "b.gguf") * 2]
    assert {name: len(answers) for name, answers in found.items()} == {"a": 2, "b": 2}
    assert found["a"][0].tops == Tops([[0, 0]], [[3.0, 4.0]])
    assert found["a"][0].kv_cache_bytes == 40
    kept = json.loads((folder / "round_2.json").read_text(encoding="utf-8"))
    assert SpeedAnswer.read(kept["b"]) == found["b"][1]
    alone = rounds.measure_single_threaded(fakes, passes)
    assert loads(tmp_path)[4:] == [[name, "1", "4", "1"] for name in ("a.gguf", "b.gguf")]
    assert len(alone["a"].step_ns) == 1


def test_a_candidate_that_has_answered_is_not_asked_again(fakes: list[Candidate], tmp_path: Path) -> None:
    ids, offsets = np.array([1, 2, 3, 4, 5, 6, 7, 8], np.int32), np.array([0, 6, 8])
    rows = CountedRows(ids, offsets, ~np.isin(np.arange(8), offsets))
    files = {name: str(tmp_path / f"{name}.npy") for name in ("token_ids", "offsets", "counts")}
    for name, part in (("token_ids", ids), ("offsets", offsets), ("counts", rows.counts)):
        np.save(files[name], part)
    splits = {"test": SplitFiles(**files, teacher="", student="", positions="")}
    passes = Passes([[1, 2, 3, 4]], prompt_tokens=3)
    for _ in range(2):
        found = quality.collect(fakes, splits, passes, 9, 1, tmp_path / "answers")
        expected = [["a.gguf", "1", "6", "1"], ["b.gguf", "1", "6", "1"]]
        assert sorted(loads(tmp_path)) == expected, "context of the longest row"
    said = found["a"].positions["test"]
    assert said["top"].tolist() == [8] * 6
    assert said["margin"].tolist() == [1.0] * 6
    assert found["a"].tops == Tops([[0, 0]], [[3.0, 4.0]])
    (tmp_path / "answers" / "b" / "done.json").unlink()
    quality.collect(fakes, splits, passes, 9, 1, tmp_path / "answers")
    assert sorted(file for file, *_ in loads(tmp_path)) == ["a.gguf", "b.gguf", "b.gguf"]


@pytest.mark.parametrize(
    ("sizes", "threads", "free", "at_once"),
    [
        ([300, 200, 10], 1, 1000, 2),
        ([300, 200, 10], 1, 999, 1),
        ([10, 200, 300], 1, 999, 1),
        ([300], 1, 600, 2),
        ([300, 200], 2, 1000, 1),
        ([300, 200], 3, 1000, 1),
    ],
)
def test_two_are_asked_at_a_time_where_threads_and_memory_are_there(
    sizes: list[int], threads: int, free: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(host, "target", lambda: SimpleNamespace(threads=2))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free))
    assert quality._at_once(sizes, threads) == at_once


def test_a_process_that_fails_says_why(fakes: list[Candidate], tmp_path: Path) -> None:
    job = SpeedJob(Load("nowhere", str(tmp_path), "", 1, 9), Passes([[1, 2]], 1), 1, 0.0)
    with pytest.raises(StageError, match=r"(?s)model a: the process that measures speed ended with code 1:.*nowhere"):
        process.run(job, "model a")
