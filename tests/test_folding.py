"""A large vocabulary's distribution in the words of a smaller one: no probability is lost, made up, or scaled."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax
from tiny_decoders import VOCAB, documents, write_decoder
from tokenizers import Tokenizer

from edgedistill.benchmark.decoder import worker
from edgedistill.benchmark.decoder.jobs import Load, Passes, PositionsJob, SplitFiles
from edgedistill.distill.decoder import asking
from edgedistill.distill.decoder.own_reading import WholeTeacher
from edgedistill.errors import StageError
from edgedistill.models.decoder_vocabulary import first_pieces, written_of
from edgedistill.models.load import load_tokenizer
from edgedistill.models.tokenizer_json import write_trimmed
from edgedistill.models.vocabulary import chosen
from edgedistill.section import VocabularyOptions
from edgedistill.tasks.text_generation import Options
from edgedistill.training.counted_rows import CountedRows
from edgedistill.training.decoder_rows import rows_of_texts, write_rows
from edgedistill.training.folding import Folding, in_whole_ids, read_folding
from edgedistill.training.positions import positions_of

KEPT = np.array([0, 2, 3, 5])
FIRST = np.array([0, 2, 1, 2, -1, 3, 0, 2])  # of 8 ids; 4 is no token, 1 and 7 begin with 3, 6 with 0
FOLDING = Folding(KEPT, FIRST)
LOGITS = arrays(np.float32, (3, 10), elements=st.floats(-80, 80, width=32))


@given(LOGITS)
def test_every_group_has_the_probability_of_its_members(logits: np.ndarray) -> None:
    tokens = np.flatnonzero(FIRST >= 0)
    whole = softmax(logits[:, tokens].astype(np.float64), axis=1)
    expected = np.zeros((3, 4))
    np.add.at(expected.T, FIRST[tokens], whole.T)
    given = softmax(FOLDING.logits(logits).astype(np.float64), axis=1)
    np.testing.assert_allclose(given, expected, atol=1e-5)
    np.testing.assert_allclose(given.sum(axis=1), 1)


@given(LOGITS)
def test_what_goes_over_is_what_dropped_tokens_had(logits: np.ndarray) -> None:
    tokens = [0, 1, 2, 3, 5, 6, 7]  # what stands for none has no part in either
    dropped = softmax(logits[:, tokens].astype(np.float64), axis=1)[:, [1, 5, 6]].sum(axis=1)
    np.testing.assert_allclose(FOLDING.moved(logits), dropped, atol=1e-6)


def test_where_all_is_kept_nothing_changes() -> None:
    everything = Folding(np.arange(8), np.arange(8))
    logits = np.random.default_rng(0).normal(size=(70, 8)).astype(np.float32) * 1e4
    assert np.array_equal(everything.logits(logits), logits)
    assert (everything.moved(logits) == 0).all()


def test_the_unlikeliest_tokens_stay_numbers() -> None:
    logits = np.array([[1e4, -1e4, -1e4, -1e4, 0, -1e4, 1e4, -1e4]], dtype=np.float32)
    assert np.isfinite(FOLDING.logits(logits)).all()
    expected = [1e4 + np.log(2), -1e4, -1e4 + np.log(3), -1e4]
    np.testing.assert_allclose(FOLDING.logits(logits)[0], expected, rtol=1e-6)


def test_what_stands_for_no_token_does_not_drown_the_others() -> None:
    logits = np.zeros((2, 8), dtype=np.float32)
    logits[1, 4] = 500
    np.testing.assert_array_equal(*FOLDING.logits(logits))
    np.testing.assert_array_equal(*FOLDING.moved(logits))


def test_a_kept_token_stands_for_itself() -> None:
    with pytest.raises(StageError, match="a kept token does not stand for itself"):
        Folding(KEPT, np.array([0, 2, 2, 2, -1, 3, 0, 2]))


def test_a_model_of_fewer_tokens_is_told() -> None:
    with pytest.raises(StageError, match="a model of 7 tokens cannot speak for a vocabulary of 8"):
        FOLDING.logits(np.zeros((1, 7), dtype=np.float32))


class Trimmed:
    """A tiny teacher, the tokens that a student keeps of it, and rows of these."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.texts = folder, documents(20, seed=4)
        self.model = write_decoder(folder)
        self.whole = load_tokenizer(folder)
        counts = np.bincount(np.concatenate([self.whole(text)["input_ids"] for text in self.texts]), minlength=VOCAB)
        kept = chosen(VocabularyOptions(size=size, min_count=0), self.whole, {}, counts)
        write_trimmed(self.whole, kept.tolist(), folder / "own")
        self.own = load_tokenizer(folder / "own")
        first = first_pieces(written_of(self.whole), written_of(self.own), kept)
        self.folding = Folding(kept, first)
        np.save(folder / "kept.npy", kept)
        np.save(folder / "first.npy", first)
        files = {part: folder / f"{part}.npy" for part in ("token_ids", "offsets", "counts", "texts")}
        self.rows = write_rows(rows_of_texts(self.own, self.texts, 128, conversations=False), files, 0, None)

    def answer(self, ids: Any) -> np.ndarray:
        import torch

        with torch.no_grad():
            said: np.ndarray = self.model(torch.tensor([list(ids)])).logits[0].numpy()
        return said

    def teacher(self) -> WholeTeacher:
        options = Options(kind="text_generation", max_length=128)
        return WholeTeacher(self.answer, self.whole, self.own, self.folding, options)


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory: pytest.TempPathFactory) -> Trimmed:
    return Trimmed(tmp_path_factory.mktemp("teacher"), 300)


def readings(made: Trimmed) -> Any:
    said = positions_of(made.folding.answer(made.answer), made.rows.counted, len(made.folding.kept))
    return made.teacher().readings(made.texts, made.rows, said["log_prob"])


def test_windows_from_the_middle_of_texts_are_read_where_they_stand(tmp_path: Path) -> None:
    every = Trimmed(tmp_path, VOCAB)  # nothing is dropped: both readings of a window are the same tokens
    files = {part: tmp_path / f"{part}.npy" for part in ("token_ids", "offsets", "counts", "texts")}
    every.rows = write_rows(rows_of_texts(every.own, every.texts, 16, conversations=False), files, 0, 200)
    said = positions_of(every.folding.answer(every.answer), every.rows.counted, VOCAB)["log_prob"]
    teacher = replace(every.teacher(), options=Options(kind="text_generation", max_length=16))
    found = teacher.readings(every.texts, every.rows, said)
    assert len(every.rows.tokens) < sum(len(every.own(text)["input_ids"]) // 16 for text in every.texts)
    assert found.tokens == found.whole_tokens > 150
    assert found.difference.value == pytest.approx(0, abs=1e-6)


def test_a_file_of_more_tokens_is_asked_in_the_ids_of_the_rows(trimmed: Trimmed) -> None:
    folder = trimmed.folder
    passes = Passes([trimmed.rows.tokens.ids[:12].tolist()], 8)
    files = SplitFiles(*(str(folder / f"{part}.npy") for part in ("token_ids", "offsets", "counts")), "", "",
                       str(folder / "said.npy"))  # fmt: skip
    folding = (str(folder / "kept.npy"), str(folder / "first.npy"))
    load = Load("pytorch_decoder", str(folder), "", 1, 128, folding)
    tops = worker.positions(PositionsJob(load, passes, len(trimmed.folding.kept), {"test": files}))
    said, counted = np.load(folder / "said.npy"), trimmed.rows.counted
    for row in counted:
        whole = softmax(trimmed.answer(trimmed.folding.kept[row.ids])[row.places].astype(np.float64), axis=1)
        members = trimmed.folding.first[None, :] == row.tokens[:, None]
        np.testing.assert_allclose(np.exp(said["log_prob"][row.positions]), (whole * members).sum(axis=1), rtol=1e-3)
    ids = trimmed.folding.kept[passes.rows[0]]
    assert tops.tokens[0] == trimmed.answer(ids)[7:].argmax(axis=1).tolist(), "the timed rows are in its own ids"
    assert read_folding(*map(Path, folding)).whole == VOCAB


class AsFile:
    """What a teacher that is a file is asked with."""

    vocabulary = VOCAB

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def logits_at(self, ids: list[int], places: list[int]) -> np.ndarray:
        return np.asarray(self.answer(ids)[places])


@pytest.mark.parametrize("kind", ["checkpoint", "file"])
def test_what_a_student_learns_is_what_the_teacher_says_in_its_own_ids(trimmed: Trimmed, kind: str) -> None:
    ask = asking._of(AsFile(trimmed.answer)) if kind == "file" else asking._in_pytorch(trimmed.folder, "no").positions
    batch, kept = np.array([2, 0]), trimmed.folding.kept
    said = ask(trimmed.rows, batch, trimmed.folding).numpy()
    rows = [trimmed.rows.counted.row(int(number)) for number in batch]
    wanted = np.concatenate([trimmed.answer(kept[row.ids])[row.places] for row in rows])
    np.testing.assert_allclose(said, wanted, atol=1e-4)
    misread = np.concatenate([trimmed.answer(row.ids)[row.places] for row in rows])
    assert not np.allclose(wanted, misread, atol=0.1), "ids that mean the same would prove nothing"


def test_rows_under_the_ids_of_the_whole_vocabulary_are_the_same_texts(trimmed: Trimmed) -> None:
    rows = in_whole_ids(trimmed.rows, trimmed.folding)
    for number in range(len(rows.tokens)):
        own, whole = (one.counted.row(number) for one in (trimmed.rows, rows))
        assert trimmed.own.decode(own.ids) == trimmed.whole.decode(whole.ids)
        assert np.array_equal(own.places, whole.places)
    assert isinstance(rows.counted, CountedRows)
    assert np.array_equal(rows.tokens.padded(np.array([0, 1]))[1], trimmed.rows.tokens.padded(np.array([0, 1]))[1])


def test_a_teacher_that_lost_no_token_reads_as_it_did(tmp_path: Path) -> None:
    found = readings(Trimmed(tmp_path, VOCAB))
    assert found.tokens == found.whole_tokens
    assert found.difference.value == pytest.approx(0, abs=1e-6)


def test_the_teachers_own_loss_is_that_of_its_own_tokens(trimmed: Trimmed) -> None:
    found = readings(trimmed)
    own: Tokenizer = trimmed.own.backend_tokenizer
    nats = bytes_read = tokens = 0
    for text in trimmed.texts:
        read = trimmed.whole.backend_tokenizer.encode(text)
        ends = sorted({end for _, end in read.offsets} & {end for _, end in own.encode(text).offsets})
        said = log_softmax(trimmed.answer(read.ids).astype(np.float64), axis=1)
        for place in range(1, len(read.ids)):
            if read.offsets[place][0] >= ends[0]:
                nats -= said[place - 1, read.ids[place]]
                bytes_read += read.offsets[place][1] - read.offsets[place][0]
                tokens += 1
    assert (found.bytes, found.whole_tokens) == (bytes_read, tokens)
    assert found.whole_loss.value == pytest.approx(nats / bytes_read, rel=1e-5)
    assert found.tokens > found.whole_tokens
    assert found.difference.value == pytest.approx(found.loss.value - found.whole_loss.value)
    assert found.difference.low <= found.difference.value <= found.difference.high
