"""New texts are old ones with words exchanged; none of them is measured on, none is there twice, none has a label."""

import re
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny_artifact import LABELS
from tiny_build import write_rows
from tiny_distill import make_teacher, sealed, teacher_options
from tiny_models import NAMES
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from edgedistill.corpus.pool import normalised
from edgedistill.corpus.read import read
from edgedistill.corpus.stage import collect
from edgedistill.distill import augment as module
from edgedistill.distill.augment import KnownTexts, augment, keys_of, replaced
from edgedistill.errors import DataError
from edgedistill.files import sha256_of, sha256_of_text
from edgedistill.recipe_sections import AugmentOptions, DataOptions
from edgedistill.values import Corpus, Teacher

WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeio" for c in "lmnr"]  # bal, bam, ...
OPTIONS = AugmentOptions(copies=3, probability=0.5, neighbours=5)


def sentences(count: int, seed: int, words: int = 8) -> list[dict[str, str]]:
    random = np.random.default_rng(seed)
    return [
        {"text": f"{' '.join(random.choice(WORDS, size=words)).capitalize()}!", "label": LABELS[i % 2]}
        for i in range(count)
    ]


def write_checkpoint(folder: Path) -> None:
    """Write a BERT classifier with random weights whose vocabulary are WORDS, in lower case."""
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: i for i, word in enumerate([*special, "a", "!", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=40, **NAMES,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)


def corpus_of(folder: Path, train: list[dict[str, str]]) -> Corpus:
    folder.mkdir()
    files: dict[str, Any] = {}
    held_out = {name: sentences(30, 50 + i) for i, name in enumerate(("validation", "calibration", "test", "other"))}
    for name, rows in {"train": train, **held_out}.items():
        write_rows(folder / f"{name}.jsonl", rows)
        files[name] = {"source": "jsonl", "file": f"{name}.jsonl"}
    options = DataOptions.model_validate({"challenge": {"other": files.pop("other")}, **files})
    return sealed(folder, collect(options, LABELS, folder, folder))


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus_of(tmp_path_factory.mktemp("texts") / "corpus", sentences(200, 1))


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory, before: Corpus) -> Teacher:
    folder = tmp_path_factory.mktemp("worded")
    write_checkpoint(folder / "checkpoint")
    return make_teacher(folder / "teacher", before, teacher_options(folder / "checkpoint"))


def augmented(folder: Path, teacher: Teacher, corpus: Corpus, **changes: Any) -> Corpus:
    folder.mkdir(parents=True, exist_ok=True)
    options = OPTIONS.model_copy(update=changes)
    return sealed(folder, augment(options, teacher=teacher, corpus=corpus, folder=folder))


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory, worded: Teacher, before: Corpus) -> Corpus:
    return augmented(tmp_path_factory.mktemp("augmented"), worded, before)


def added(after: Corpus, before: Corpus) -> list[str]:
    return read(after, "train").texts[before.splits["train"].rows :]


def test_the_own_rows_stand_first_and_the_new_ones_have_no_label(after: Corpus, before: Corpus) -> None:
    old, new = read(before, "train"), read(after, "train")
    count = len(old.texts)
    assert new.texts[:count] == old.texts
    assert new.row_hashes[:count] == old.row_hashes
    assert (new.labels[:count] == old.labels).all()
    assert len(new.texts) > 3 * count
    assert (new.labels[count:] == -1).all()
    assert new.row_hashes == [sha256_of_text(text)[:16] for text in new.texts]


def test_the_split_and_the_counts_say_what_lies_there(after: Corpus, before: Corpus) -> None:
    train, told = after.splits["train"], after.augmentation
    assert told is not None
    assert train.rows == len(read(after, "train").texts) == before.splits["train"].rows + told.rows
    assert train.sha256 == sha256_of(after.path(train.file))
    assert (train.labelled_rows, train.label_counts) == (
        before.splits["train"].labelled_rows, before.splits["train"].label_counts,
    )  # fmt: skip
    assert told.rows + told.equal_to_held_out + told.equal_to_train == 3 * told.made_from
    assert told.words == 3 * 8 * told.made_from
    assert told.vocabulary == len(WORDS)
    assert told.words_replaced / told.words == pytest.approx(OPTIONS.probability, abs=0.03)


@pytest.mark.parametrize("split", ["validation", "test", "calibration", "challenge.other"])
def test_the_other_splits_are_the_same_files_under_another_name(split: str, after: Corpus, before: Corpus) -> None:
    assert after.splits[split] == before.splits[split]
    old, new = (corpus.path(corpus.splits[split].file) for corpus in (before, after))
    assert old != new
    assert old.samefile(new)


def test_without_links_they_are_copied(
    worded: Teacher, before: Corpus, after: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any) -> None:
        raise OSError("another file system")

    monkeypatch.setattr("os.link", no_links)
    copied = augmented(tmp_path, worded, before)
    assert copied.model_dump() == after.model_dump()
    assert sha256_of(tmp_path / "test.parquet") == before.splits["test"].sha256


def test_only_words_change_and_only_to_near_words_in_their_casing(
    after: Corpus, before: Corpus, worded: Teacher
) -> None:
    neighbours = neighbours_of(worded)
    sources = read(before, "train").texts
    near = {word: set(neighbours.of(word)) | {word} for word in WORDS}

    def comes_from(text: str, source: str) -> bool:
        new, old = text[:-1].lower().split(), source[:-1].lower().split()
        return len(new) == len(old) and all(a in near[b] for a, b in zip(new, old, strict=True))

    for text in added(after, before)[::7]:
        assert re.fullmatch(r"[A-Z][a-z]{2}( [a-z]{3}){7}!", text)
        assert any(comes_from(text, source) for source in sources), text


def neighbours_of(teacher: Teacher, most: int = 5) -> Any:
    checkpoint = teacher.path(teacher.checkpoint)
    table = module.load_model(checkpoint).token_table.weight.detach().numpy()
    return module.Neighbours(module.load_tokenizer(checkpoint), table, most)


def test_no_new_text_is_measured_on_or_there_twice(after: Corpus, before: Corpus) -> None:
    keys = [normalised(text) for text in read(after, "train").texts]
    assert len(set(keys)) == len(keys)
    for split in before.splits.keys() - {"train"}:
        assert not set(keys) & {normalised(text) for text in read(before, split).texts}


SHORT = [{"text": f"{a} {b}", "label": LABELS[i % 2]} for i, (a, b) in enumerate(pairwise(WORDS))]


@pytest.mark.parametrize("broken", [False, True])
def test_held_out_texts_and_repeated_ones_are_dropped_and_counted(
    worded: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    """Two words each: copies repeat, and many are held-out texts, in other letters."""
    corpus = corpus_of(tmp_path / "corpus", SHORT)
    near = neighbours_of(worded)
    held_out = sorted({f"{a} {b}".upper() for row in SHORT for b in near.of(row["text"].split()[1])[:2]
                       for a in [row["text"].split()[0]]})  # fmt: skip
    table = pq.read_table(corpus.path(corpus.splits["test"].file)).slice(0, 0)
    rows = module._table(held_out, table.schema)
    pq.write_table(rows, corpus.path(corpus.splits["test"].file))
    if broken:
        monkeypatch.setattr(KnownTexts, "have", lambda _, keys: np.zeros(len(keys), dtype=bool))
    made = augmented(tmp_path / "augmented", worded, corpus, copies=20)
    told = made.augmentation
    assert told is not None
    keys = [normalised(text) for text in read(made, "train").texts]
    clean = len(set(keys)) == len(keys) and not set(keys) & {normalised(text) for text in held_out}
    assert clean is not broken
    assert (told.equal_to_held_out > 20) is not broken
    assert told.equal_to_train > 20
    assert told.rows + told.equal_to_held_out + told.equal_to_train == 20 * told.made_from, "each is counted once"


def test_known_texts_are_known_by_their_normalised_form() -> None:
    known = KnownTexts()
    known.add(keys_of(["A film.", "B", "b "]))
    assert known.have(keys_of(["a  FILM.", "a film", "b"])).tolist() == [True, False, True]
    known.add(keys_of(["a film", "c"]))
    assert known.have(keys_of(["a film", "A film.", "C", "d"])).tolist() == [True, True, True, False]
    assert len(known._keys) == 4
    assert (np.diff(known._keys.astype(object)) > 0).all()


@pytest.mark.parametrize("rows_at_once", [1, 7, 4096])
def test_how_many_rows_are_read_at_once_changes_no_text(
    rows_at_once: int, worded: Teacher, before: Corpus, after: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows_at_once)
    again = augmented(tmp_path, worded, before)
    assert read(again, "train").texts == read(after, "train").texts
    assert again.augmentation == after.augmentation


def test_the_same_again_is_the_same_file_and_goes_over_what_a_kill_left(
    worded: Teacher, before: Corpus, after: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "linked", dying)
        with pytest.raises(KeyboardInterrupt):
            augmented(tmp_path, worded, before)
    assert augmented(tmp_path, worded, before).model_dump() == after.model_dump()


def test_a_texts_copies_depend_on_seed_text_and_copy_alone(
    worded: Teacher, before: Corpus, after: Corpus, tmp_path: Path
) -> None:
    old = read(before, "train").texts
    fewer = corpus_of(tmp_path / "fewer", [{"text": text, "label": LABELS[i % 2]} for i, text in enumerate(old[50:])])
    some = added(augmented(tmp_path / "some", worded, fewer), fewer)
    assert set(some) < set(added(after, before))
    first = added(augmented(tmp_path / "first", worded, before, copies=1), before)
    assert set(first) < set(added(after, before))
    other = added(augmented(tmp_path / "other", worded, before, seed=1), before)
    assert len(set(other) & set(added(after, before))) < len(other) / 10


class Doubled:
    """Every word has one neighbour, itself twice."""

    def of(self, word: str) -> list[str]:
        return [word.lower() * 2]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Good film, isn't it?", "Goodgood filmfilm, isn't itit?"),
        ("the 4th of may_be O'Neill’s 'day' x2y", "thethe 4th ofof may_be O'Neill’s 'day' x2y"),
        ("well-made: a  B\tcd\n", "wellwell-mademade: a  B\tcdcd\n"),
        ("ÜBER кино", "ÜBERÜBER кинокино"),
        ("", ""),
    ],
)
def test_what_counts_as_a_word_of_a_text(text: str, wanted: str) -> None:
    neighbours: Any = Doubled()
    made, words, count = replaced(text, neighbours, 1.0, np.random.default_rng(0))
    assert made == wanted
    assert words == count
    assert replaced(text, neighbours, 1e-12, np.random.default_rng(0)) == (text, words, 0)


def test_texts_of_foreign_words_alone_are_told(worded: Teacher, tmp_path: Path) -> None:
    foreign = [{"text": f"zz{i}zz qq{i}", "label": LABELS[i % 2]} for i in range(40)]
    corpus = corpus_of(tmp_path / "corpus", foreign)
    with pytest.raises(DataError, match="not one of 120 texts became another: 0 words of train are among the 80 whole"):
        augmented(tmp_path / "augmented", worded, corpus)


@pytest.mark.parametrize(("rows_at_once", "flat"), [(25, True), (10**6, False)])
def test_memory_does_not_grow_with_the_texts(
    worded: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int, *, flat: bool
) -> None:
    neighbours = neighbours_of(worded)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows_at_once)
    monkeypatch.setattr(module, "Neighbours", lambda *_: neighbours)
    monkeypatch.setattr(module, "load_model", lambda *_: Model())
    peaks = []
    for count in (50, 400):
        corpus = corpus_of(tmp_path / str(count), sentences(count, 2))
        tracemalloc.start()
        augmented(tmp_path / f"out{count}", worded, corpus)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    numbers = 4 * 8 * 400  # the key of every text, and again while some are added
    assert (peaks[1] < peaks[0] + 2 * numbers) is flat, peaks


class Model:
    """Has a token table, and nothing to load."""

    token_table = torch.nn.Embedding(2, 2)
