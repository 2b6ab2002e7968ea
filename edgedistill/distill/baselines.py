"""Baselines: cheap models that a student must beat to be worth anything, on the same splits."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from edgedistill.corpus.read import batches, labels_of, texts_of
from edgedistill.progress import say
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
    return (_majority(corpus, signals, folder), _tfidf_linear(corpus, signals, folder))


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
        documents = vectorizer.fit_transform([texts[row] for row in searched])
        features[split] = documents.shape[1]
        queries = vectorizer.transform(texts)
        return queries.toarray().astype(np.float32) if most else _reduced(queries, documents)

    evaluation = evaluate(answer, signals, corpus.evaluation_splits, folder, name)
    told = ", ".join(f"{count} on {split}" for split, count in features.items())
    description = f"cosine of TF-IDF of {words.told} in what is searched among, features: {told}"
    return Baseline(name=name, description=description, evaluation=evaluation)


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
    from sklearn.linear_model import LogisticRegression

    say("  control: TF-IDF and a linear model")
    labels, validation_labels = labels_of(corpus, "train"), labels_of(corpus, "validation")
    known, judged = labels[labels >= 0], validation_labels >= 0
    gold = known[:TFIDF_ROWS]  # a corpus lies in the order of a hash: its first rows are a sample that no file decides
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features = vectorizer.fit_transform(islice(texts_of(corpus, "train", labelled=True), len(gold)))
    held_out = vectorizer.transform(texts_of(corpus, "validation"))
    models = [LogisticRegression(C=strength, max_iter=1000).fit(features, gold) for strength in TFIDF_STRENGTHS]
    best = max(models, key=lambda model: (model.predict(held_out)[judged] == validation_labels[judged]).mean())

    def answer(name: str) -> np.ndarray:
        logits = np.full((corpus.splits[name].rows, len(corpus.labels)), -30.0, dtype=np.float32)
        start = 0
        for batch in batches(corpus, name, "text"):
            said = best.predict_log_proba(vectorizer.transform(batch["text"].to_pylist()))
            logits[start : start + len(said), best.classes_] = said
            start += len(said)
        return logits

    evaluation = evaluate(answer, signals, corpus.evaluation_splits, folder, "tfidf")
    description = (
        f"TF-IDF (1,2)-grams, logistic regression, C={best.C:g} chosen on validation, {features.shape[1]} features"
    )
    if len(gold) < len(known):
        description += f", fitted on {len(gold)} of {len(known)} labelled rows, drawn by hash"
    return Baseline(name="tfidf_linear", description=description, evaluation=evaluation)


def _majority(corpus: Corpus, signals: Signals, folder: Path) -> Baseline:
    """The training rows' most frequent class, always."""
    train_labels = SplitSignals(signals, "train").labels
    counts = np.bincount(train_labels[train_labels >= 0], minlength=len(corpus.labels))

    def answer(name: str) -> np.ndarray:
        return np.tile((counts / counts.sum()).astype(np.float32), (signals.splits[name].rows, 1))

    evaluation = evaluate(answer, signals, corpus.evaluation_splits, folder, "majority")
    description = f"always {corpus.labels[int(counts.argmax())]!r}, the most frequent class in train"
    return Baseline(name="majority", description=description, evaluation=evaluation)
