"""What quantization costs is measured against the float student, as the file will be run."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tiny_quantize import options_of, plain_model, some_rows, trial_of

from edgedistill.errors import QuantizationError
from edgedistill.quantize import judge as judging
from edgedistill.quantize.exchange import exchange
from edgedistill.quantize.judge import Judge, compared


def logits(seed: int, rows: int = 50, classes: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, classes)).astype(np.float32) * 3


LABELS = np.random.default_rng(9).integers(0, 3, 50)


def test_what_is_equal_costs_nothing() -> None:
    cost = compared(logits(0), logits(0), LABELS)
    assert (cost.kl, cost.agreement.value, cost.rows) == (0.0, 1.0, 50)
    assert cost.metric_loss is not None
    assert cost.metric_loss.value == 0


@given(st.integers(0, 100), st.integers(0, 100), st.floats(-50, 50))
def test_the_divergence_is_torchs(a: int, b: int, shift: float) -> None:
    before, after = (torch.from_numpy(logits(seed)).double() for seed in (a, b))
    expected = F.kl_div(after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="batchmean")
    shifted = (logits(b).astype(np.float64) + shift).astype(np.float32)  # the same probabilities
    assert compared(logits(a), shifted, LABELS).kl == pytest.approx(max(float(expected), 0), abs=1e-4)
    assert compared(logits(a), logits(b), LABELS).kl == pytest.approx(max(float(expected), 0), abs=1e-9)


def test_agreement_and_metric_are_shares_of_rows() -> None:
    before = np.array([[2, 0], [2, 0], [0, 2], [0, 2]], np.float32)
    after = np.array([[2, 0], [0, 2], [0, 2], [2, 0]], np.float32)
    cost = compared(before, after, np.array([0, 0, -1, 1]))
    assert cost.agreement.value == 0.5
    assert cost.metric is not None
    assert cost.metric_loss is not None
    assert (cost.metric.n, cost.metric.value) == (3, pytest.approx(1 / 3))
    assert cost.metric_loss.value == pytest.approx(2 / 3), "the float student was right on all three"


def test_without_gold_there_is_no_metric() -> None:
    cost = compared(logits(0), logits(1), np.full(50, -1))
    assert (cost.metric, cost.metric_loss) == (None, None)


def faults(judge: Judge, decided: Any) -> list[str]:
    """Return where a judge's cost is not that of a model which is asked one row at a time."""
    quantized = plain_model()
    exchange(quantized, decided)
    alone = []
    for row in range(len(judge.rows)):
        ids, mask = (torch.from_numpy(array) for array in judge.rows.padded([row]))
        with torch.no_grad():
            alone.append(quantized(ids, mask).numpy()[0])
    expected = compared(judge.float_outputs, np.array(alone), judge.labels)
    return [] if judge.cost(decided) == expected else ["cost"]


def test_a_range_that_spans_its_batch_is_measured_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trial_of(plain_model())
    decided = trial.decide(options_of("dynamic_int8"))
    assert not faults(trial.judge, decided)
    monkeypatch.setattr(judging, "batch_matters", lambda _model: False)
    assert faults(trial.judge, decided), "the check can fail"


def test_the_float_model_is_left_alone() -> None:
    trial = trial_of(plain_model())
    before = {name: tensor.clone() for name, tensor in trial.model.state_dict().items()}
    trial.judge.cost(trial.decide(options_of("dynamic_int8")))
    assert all(torch.equal(tensor, before[name]) for name, tensor in trial.model.state_dict().items())
    assert trial.judge.cost({}).kl == 0


@pytest.mark.parametrize(("most", "kept"), [(1, 1), (7, 7), (50, 50), (51, 50)])
def test_fewer_rows_are_spread_evenly(most: int, kept: int) -> None:
    judge = Judge(plain_model(), some_rows(50, 0), np.arange(50)).fewer(most)
    assert len(judge.rows) == len(judge.labels) == kept
    steps = np.diff(judge.labels)
    assert steps.size == 0 or steps.max() - steps.min() <= 1
    whole = some_rows(50, 0)
    for i, row in enumerate(judge.labels):
        assert np.array_equal(judge.rows.padded([i])[0], whole.padded([row])[0])


def test_logits_that_are_not_finite_are_an_error() -> None:
    trial = trial_of(plain_model())
    decided = trial.decide(options_of("float16"))
    decided["output"].half[0, 0] = np.inf  # type: ignore[union-attr]
    with pytest.raises(QuantizationError, match="not finite"):
        trial.judge.cost(decided)
