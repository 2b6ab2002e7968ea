"""Baselines: cheap models that a student must beat to be worth anything, on the same splits."""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from edgedistill.corpus.read import batches, labels_of, texts_of
from edgedistill.progress import say
from edgedistill.tasks._labels import as_sets, members
from edgedistill.tasks._task import task_of
from edgedistill.training.evaluate import evaluate
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Baseline, Corpus, Signals

TFIDF_STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
TFIDF_ROWS = 100_000  # labelled rows at most: each brings new word pairs, and a cheap baseline may not cost gigabytes
MOST_SEARCHED = 4096  # texts whose vectors are kept exactly; of more, as many frequent features


class Counted(NamedTuple):
    """What TF-IDF counts."""

    analyzer: str
    length: tuple[int, int]
    told: str


Grams = Literal["words", "characters"]
GRAMS: Mapping[Grams, Counted] = {
    "words": Counted("word", (1, 1), "words"),
    "characters": Counted("char_wb", (3, 5), "3 to 5 characters inside words"),
}


def baselines(corpus: Corpus, signals: Signals, folder: Path) -> tuple[Baseline, ...]:
    """Return what there is to compare with; files go below `folder`."""
    if not corpus.labels:
        return tuple(_tfidf_search(corpus, signals, folder, of) for of in GRAMS)
    majority = _majority(corpus, signals, folder)
    try:
        return majority, _tfidf_linear(corpus, signals, folder)
    except _NothingCountedError:
        say("  control left out: no labelled text of train has a word of two letters, which TF-IDF would count")
        return (majority,)


def _tfidf_search(corpus: Corpus, signals: Signals, folder: Path, of: Grams) -> Baseline:
    """TF-IDF: how search finds a text that shares rare words, or parts of words, with the query, without any model."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    name, words = f"tfidf_{of}", GRAMS[of]
    say(f"  control: search by TF-IDF of {words.told}")
    features: dict[str, int] = {}

    def answer(split: str) -> np.ndarray:
        gold = SplitSignals(signals, split).labels
        searched = np.flatnonzero(gold < 0) if (gold < 0).any() else np.arange(len(gold))
        texts = list(texts_of(corpus, split))
        most = None if len(searched) <= MOST_SEARCHED else MOST_SEARCHED
        vectorizer = TfidfVectorizer(
            sublinear_tf=True, analyzer=words.analyzer, ngram_range=words.length, max_features=most
        )
        try:
            documents = _fitted(vectorizer, (texts[row] for row in searched))
        except _NothingCountedError:
            features[split] = 0
            return np.zeros((len(texts), 1), dtype=np.float32)
        features[split] = documents.shape[1]
        queries = vectorizer.transform(texts)
        return queries.astype(np.float32).toarray() if most else _reduced(queries, documents)

    evaluation = evaluate(answer, signals, corpus.evaluation_splits, folder, name)
    told = ", ".join(f"{count} on {split}" for split, count in features.items())
    description = f"cosine of TF-IDF of {words.told} in what is searched among, features: {told}"
    return Baseline(name=name, description=description, evaluation=evaluation)


class _NothingCountedError(Exception):
    """No text holds anything that TF-IDF counts: single letters and signs are no words to it."""


def _fitted(vectorizer: Any, texts: Iterable[str]) -> Any:
    """Return the texts' features, (texts, features), sparse."""
    try:
        return vectorizer.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" in str(error):
            raise _NothingCountedError from error
        raise


def _reduced(queries: Any, documents: Any) -> np.ndarray:
    """Return vectors of fewer numbers with the same inner products between queries and documents.

    They are the coordinates in the space that the documents span: what of a query lies outside of it meets no document.

    Args:
        queries: (texts, features), sparse.
        documents: (documents, features), sparse.

    Returns:
        (texts, at most as many numbers as documents) float32.
    """
    squares, directions = np.linalg.eigh((documents @ documents.T).toarray())
    kept = squares > squares[-1] * 1e-9
    reduced: np.ndarray = (queries @ documents.T).toarray() @ (directions[:, kept] / np.sqrt(squares[kept]))
    return reduced.astype(np.float32)


def _tfidf_linear(corpus: Corpus, signals: Signals, folder: Path) -> Baseline:
    """TF-IDF of words and word pairs under logistic regression, its strength chosen on validation."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    say("  control: TF-IDF and a linear model")
    labels, validation_labels = labels_of(corpus, "train"), labels_of(corpus, "validation")
    known, judged = labels[labels >= 0], validation_labels >= 0
    gold = known[:TFIDF_ROWS]  # a corpus lies in the order of a hash: its first rows are a sample that no file decides
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features = _fitted(vectorizer, islice(texts_of(corpus, "train", labelled=True), len(gold)))
    held_out = vectorizer.transform(texts_of(corpus, "validation"))
    fit: Any = _OneForEachLabel if task_of(signals.task).Options.SEVERAL else _OneForAll
    models = [fit(features, gold, len(corpus.labels), strength) for strength in TFIDF_STRENGTHS]
    best = max(models, key=lambda model: (model.predict(held_out)[judged] == validation_labels[judged]).mean())

    def answer(name: str) -> np.ndarray:
        parts = [best.logits(vectorizer.transform(b["text"].to_pylist())) for b in batches(corpus, name, "text")]
        return np.concatenate([np.empty((0, len(corpus.labels)), dtype=np.float32), *parts])

    evaluation = evaluate(answer, signals, corpus.evaluation_splits, folder, "tfidf")
    description = (
        f"TF-IDF (1,2)-grams, {best.NAME}, C={best.strength:g} chosen on validation, {features.shape[1]} features"
    )
    if len(gold) < len(known):
        description += f", fitted on {len(gold)} of {len(known)} labelled rows, drawn by hash"
    return Baseline(name="tfidf_linear", description=description, evaluation=evaluation)


class _OneForAll:
    """One logistic regression that tells the labels apart."""

    NAME = "logistic regression"

    def __init__(self, features: Any, gold: np.ndarray, labels: int, strength: float) -> None:
        from sklearn.linear_model import LogisticRegression

        self.strength, self._labels = strength, labels
        self._model = LogisticRegression(C=strength, max_iter=1000).fit(features, gold)

    def predict(self, features: Any) -> np.ndarray:
        """Return each row's label, (rows,)."""
        found: np.ndarray = self._model.predict(features)
        return found

    def logits(self, features: Any) -> np.ndarray:
        """Return log-probabilities, (rows, labels) float32; next to nothing for a label that no row had."""
        logits = np.full((features.shape[0], self._labels), -30.0, dtype=np.float32)
        logits[:, self._model.classes_] = self._model.predict_log_proba(features)
        return logits


class _OneForEachLabel:
    """A logistic regression for each label, whatever the others say."""

    NAME = "a logistic regression for each label"

    def __init__(self, features: Any, gold: np.ndarray, labels: int, strength: float) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier

        holds = members(gold, labels)
        self.strength, self._always = strength, holds.all(axis=0)
        self._varies = holds.any(axis=0) & ~self._always  # others need no model, and get none
        self._model = OneVsRestClassifier(LogisticRegression(C=strength, max_iter=1000))
        self._model.fit(features, holds[:, self._varies])

    def predict(self, features: Any) -> np.ndarray:
        """Return each row's set of labels, (rows,) int64."""
        return as_sets(self.logits(features) > 0)

    def logits(self, features: Any) -> np.ndarray:
        """Return logits, (rows, labels) float32; of a label that always or never held, that it does so."""
        logits = np.tile(np.where(self._always, 30.0, -30.0).astype(np.float32), (features.shape[0], 1))
        logits[:, self._varies] = self._model.decision_function(features).reshape(features.shape[0], -1)
        return logits


def _majority(corpus: Corpus, signals: Signals, folder: Path) -> Baseline:
    """What the training rows most often say, always: the most frequent class, or each label's more frequent state."""
    labels = np.asarray(SplitSignals(signals, "train").labels)
    several = task_of(signals.task).Options.SEVERAL
    said, description = (_states if several else _most_frequent)(labels[labels >= 0], corpus.labels)

    def answer(name: str) -> np.ndarray:
        return np.tile(said.astype(np.float32), (signals.splits[name].rows, 1))

    evaluation = evaluate(answer, signals, corpus.evaluation_splits, folder, "majority")
    return Baseline(name="majority", description=description, evaluation=evaluation)


def _most_frequent(gold: np.ndarray, labels: tuple[str, ...]) -> tuple[np.ndarray, str]:
    """Return each class' share of the rows, (classes,), and in words which one it is."""
    counts = np.bincount(gold, minlength=len(labels))
    return counts / counts.sum(), f"always {labels[int(counts.argmax())]!r}, the most frequent class in train"


def _states(gold: np.ndarray, labels: tuple[str, ...]) -> tuple[np.ndarray, str]:
    """Return each label's log-odds in the rows, (labels,), and in words which labels hold in more than half of them."""
    share = members(gold, len(labels)).mean(axis=0).clip(1e-6, 1 - 1e-6)
    held = [repr(label) for label, of_label in zip(labels, share, strict=True) if of_label > 0.5]
    description = f"always {' and '.join(held) or 'no label'}: each label's more frequent state in train"
    return np.log(share / (1 - share)), description
