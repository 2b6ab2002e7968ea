"""A token is chosen as independent implementations choose it, and again the same under the same seed."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgedistill.errors import ModelError, RecipeError
from edgedistill.sampling import Sampler, Sampling, probabilities

LOGITS = np.random.default_rng(0).normal(size=50).astype(np.float32) * 3


def by_transformers(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    import transformers as t

    warpers: list[Any] = [t.TemperatureLogitsWarper(sampling.temperature)]
    warpers += [t.TopKLogitsWarper(sampling.top_k)] if sampling.top_k is not None else []
    warpers += [t.TopPLogitsWarper(sampling.top_p)] if sampling.top_p is not None else []
    scores = torch.tensor(logits[None], dtype=torch.float64)
    for warper in warpers:
        scores = warper(torch.zeros((1, 1), dtype=torch.long), scores)
    return torch.softmax(scores, dim=-1)[0].numpy()


def by_hand(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """One token after another, from the likeliest down, as the definition reads."""
    weights = {token: np.exp(float(logit) / sampling.temperature) for token, logit in enumerate(logits)}
    ranked = sorted(weights, key=lambda token: -weights[token])[: sampling.top_k]
    total, reached, kept = sum(weights[token] for token in ranked), 0.0, []
    for token in ranked:
        kept.append(token)
        reached += weights[token] / total
        if reached >= (sampling.top_p or 1):
            break
    shares = np.zeros(len(logits))
    for token in kept:
        shares[token] = weights[token] / sum(weights[one] for one in kept)
    return shares


@given(
    seed=st.integers(0, 999),
    temperature=st.sampled_from([0.3, 0.7, 1.0, 2.5]),
    top_k=st.sampled_from([None, 1, 3, 10, 50, 99]),
    top_p=st.sampled_from([None, 0.05, 0.5, 0.9, 0.99]),
)
@settings(max_examples=60)
def test_the_distribution_is_that_of_transformers_and_of_the_definition(
    seed: int, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    logits = np.random.default_rng(seed).normal(size=50).astype(np.float32) * 3
    sampling = Sampling(temperature, top_k, top_p)
    found = probabilities(logits, sampling)
    assert found.sum() == pytest.approx(1)
    assert np.allclose(found, by_transformers(logits, sampling), atol=1e-9)
    assert np.allclose(found, by_hand(logits, sampling), atol=1e-9)


def test_a_temperature_applied_last_would_be_seen() -> None:
    sampling = Sampling(2.5, top_p=0.5)
    late = by_transformers(LOGITS, Sampling(1.0, top_p=0.5)) ** (1 / 2.5)
    assert not np.allclose(probabilities(LOGITS, sampling), late / late.sum(), atol=1e-3)


def test_draws_follow_the_distribution() -> None:
    sampling = Sampling(1.5, top_k=8, seed=3)
    sampler, expected = Sampler(sampling), by_hand(LOGITS, sampling)
    drawn = np.bincount([sampler.choose(LOGITS) for _ in range(4000)], minlength=50)
    assert not drawn[expected == 0].any()
    possible = expected > 0
    assert stats.chisquare(drawn[possible], 4000 * expected[possible]).pvalue > 0.01
    uniform = np.full(possible.sum(), 4000 / possible.sum())
    assert stats.chisquare(drawn[possible], uniform).pvalue < 1e-6, "the test would see another distribution"


def test_a_seed_decides_the_draws() -> None:
    def draws(seed: int) -> list[int]:
        sampler = Sampler(Sampling(1.0, seed=seed))
        return [sampler.choose(LOGITS) for _ in range(30)]

    assert draws(5) == draws(5) != draws(6)
    bounds, random = np.cumsum(by_hand(LOGITS, Sampling(1.0))), np.random.default_rng(5)
    assert draws(5) == [int(np.argmax(bounds > random.random())) for _ in range(30)]


def test_without_a_temperature_the_first_of_the_likeliest_is_taken() -> None:
    logits = np.array([0.0, 7.0, 7.0, -np.inf], dtype=np.float32)
    assert [Sampler(Sampling(seed=seed)).choose(logits) for seed in range(3)] == [1, 1, 1]
    assert Sampler(Sampling(1e-9)).choose(logits) in (1, 2), "and nearly without one, one of them"
    assert Sampler(Sampling(1.0, top_k=1)).choose(LOGITS) == LOGITS.argmax()


def test_what_is_impossible_is_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf], dtype=np.float32)
    sampler = Sampler(Sampling(100.0))
    assert {sampler.choose(logits) for _ in range(200)} == {1, 3}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_none_are_told(bad: float) -> None:
    for sampling in (Sampling(), Sampling(1.0)):
        with pytest.raises(ModelError, match="not finite"):
            Sampler(sampling).choose(np.array([1.0, bad], dtype=np.float32))
    with pytest.raises(ModelError, match="not finite"):
        Sampler(Sampling()).choose(np.full(3, -np.inf))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"temperature": np.nan}, "temperature nan"),
        ({"temperature": np.inf}, "temperature inf"),
        ({"temperature": 1.0, "top_k": 0}, "top_k 0 leaves no token"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p 0.0 is no share"),
        ({"temperature": 1.0, "top_p": 1.1}, "top_p 1.1 is no share"),
        ({"top_k": 5}, "temperature 0 draws nothing"),
        ({"seed": -1}, "seed -1 is negative"),
    ],
)
def test_what_cannot_be_is_told(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Sampling(**wrong)
