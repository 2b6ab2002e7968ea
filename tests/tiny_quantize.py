"""A small classifier to quantize, and what judges it; one with outliers, on which naive int8 collapses."""

from typing import Any

import numpy as np
import torch

from edgedistill import registry
from edgedistill.models.classifier import StaticClassifier
from edgedistill.quantize.judge import Judge
from edgedistill.quantize.trial import Trial
from edgedistill.section import MethodOptions
from edgedistill.training.rows import TokenRows

VOCAB, WIDTH, HIDDEN = 50, 32, 16
OUTLIER = 1024.0  # a power of two: multiplying and dividing by it changes no last bit


def some_rows(count: int, seed: int) -> TokenRows:
    """Return rows of 1 to 9 tokens."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 10, count)
    return TokenRows(random.integers(1, VOCAB, lengths.sum()).astype(np.int32), np.cumsum([0, *lengths]), 0)


def plain_model(seed: int = 0, hidden: int = HIDDEN) -> StaticClassifier:
    """Return a classifier whose weights are all of one size."""
    torch.manual_seed(seed)
    return StaticClassifier(VOCAB, WIDTH, hidden, ("negative", "positive")).eval()


def outlier_model() -> StaticClassifier:
    """Return a classifier that computes what the plain one does, with a huge row of weights and a huge activation.

    One row of the hidden layer is a thousand times larger, and the weights that read its output are that much smaller.
    One scale for the whole matrix leaves nothing of the other rows; one scale for each row mends the weights, and the
    activation that the output layer reads is still a thousand times larger in one channel.
    """
    model = plain_model()
    with torch.no_grad():
        model.hidden.weight[3] *= OUTLIER
        model.hidden.bias[3] *= OUTLIER
        model.output.weight[:, 3] /= OUTLIER
    return model


def rare_token_model() -> StaticClassifier:
    """Return a classifier with rare tokens that are huge in a channel which nothing reads: they only widen a range."""
    model = plain_model()
    with torch.no_grad():
        model.embedding.weight[7:10, 0] = OUTLIER
        model.hidden.weight[:, 0] = 0
        model.hidden.bias[:] = 0
        model.output.bias[:] = 0
    return model


def trial_of(model: Any, count: int = 200) -> Trial:
    """Return a trial whose rows have for label what the float model says, but for every tenth."""
    rows = some_rows(count, seed=1)
    judge = Judge(model, rows, np.zeros(count, np.int64))
    labels = judge.float_outputs.argmax(axis=1)
    labels[::10] = 1 - labels[::10]
    return Trial(model, some_rows(40, seed=2), Judge(model, rows, labels))


def options_of(method: str, **settings: Any) -> MethodOptions:
    """Return a method's options under which no layer is left out for being small."""
    options: Any = registry.load("edgedistill.quantize.methods", method).Options
    if "min_weights" in options.model_fields:
        settings = {"min_weights": 1, **settings}
    made: MethodOptions = options(method=method, **settings)
    return made
