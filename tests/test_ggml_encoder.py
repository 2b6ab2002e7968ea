"""ggml's own encoder: what comes back is near what went in, other readers agree, and importance is obeyed."""

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from edgedistill.errors import QuantizationError
from edgedistill.models.ggml_tensors import GgmlTensor
from edgedistill.quantize.ggml_encoder import TYPES, UNWEIGHTED, encode, ggml

ROWS, COLUMNS, HEAVY = 24, 512, 37
BLOCKS = tuple(name for name in TYPES if name not in ("F32", "F16"))
WEIGHTED = tuple(name for name in TYPES if name not in UNWEIGHTED)
ALSO_BY_GGUF = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
"""Types that gguf's own Python code can encode."""
FAMILIES = (("Q4_0", "Q5_0", "Q8_0"), ("Q4_1", "Q5_1", "Q8_0"), ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "F16"))
Encoder = Callable[..., GgmlTensor]


def weight() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)


def importance() -> np.ndarray:
    """Return importance that differs by some orders of magnitude, and one column that matters more than all others."""
    made = np.exp(2 * np.random.default_rng(1).normal(size=COLUMNS)).astype(np.float32)
    made[HEAVY] = 1e4
    return made


def error(stored: GgmlTensor, weights: np.ndarray | None = None) -> float:
    """Return the relative error, or where columns are weighted that of the weighted squares."""
    factor = np.ones(COLUMNS) if weights is None else weights
    return float(np.sqrt((factor * (stored.floats() - weight()) ** 2).sum() / (factor * weight() ** 2).sum()))


def faults(encoder: Encoder, type_name: str) -> list[str]:
    """Return what is wrong with how a type is encoded."""
    found = []
    plain = encoder(weight(), type_name)
    if error(plain) > 2.0 ** (1.5 - min(plain.bits_per_weight, 12)):
        found.append("what comes back is as near as the bits allow")
    if not np.array_equal(encoder(weight()[[5]], type_name).data, plain.data[[5]]):
        found.append("a row is encoded by itself, so that rows may be turned afterwards")
    if not np.array_equal(encoder(weight(), type_name).data, plain.data):
        found.append("twice the same")
    given = encoder(weight(), type_name, importance())
    if type_name in UNWEIGHTED:
        if not np.array_equal(given.data, plain.data):
            found.append("where nothing is chosen, importance changes nothing")
    elif error(given, importance()) > 0.97 * error(plain, importance()):
        found.append("importance lowers the error that it weighs")
    return found


@pytest.fixture
def library() -> None:
    pytest.importorskip("llama_cpp", reason="ggml's encoder is in llama-cpp-python")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("type_name", TYPES)
def test_every_type_keeps_the_contract(type_name: str) -> None:
    assert not faults(encode, type_name)


def _other(weights: np.ndarray, type_name: str, known: np.ndarray | None = None) -> GgmlTensor:
    made = encode(weights, type_name, known)
    return GgmlTensor(made.type, made.shape, made.data ^ 1)


def _whole(weights: np.ndarray, type_name: str, known: np.ndarray | None = None) -> GgmlTensor:
    return encode(weights / np.abs(weights).max() * np.float32(4), type_name, known)


def _deaf(weights: np.ndarray, type_name: str, known: np.ndarray | None = None) -> GgmlTensor:
    return encode(weights, type_name)


def _turned(weights: np.ndarray, type_name: str, known: np.ndarray | None = None) -> GgmlTensor:
    return encode(weights, type_name, None if known is None else 1 / known)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("type_name", ["Q4_0", "Q4_K", "IQ4_NL"])
@pytest.mark.parametrize("twin", [_other, _whole, _deaf, _turned])
def test_the_contract_rejects_a_broken_encoder(twin: Encoder, type_name: str) -> None:
    assert faults(twin, type_name)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("type_name", ALSO_BY_GGUF)
def test_the_bytes_are_those_of_another_encoder(type_name: str) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    assert np.array_equal(encode(weight(), type_name).data, quantize(weight(), GGMLQuantizationType[type_name]))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("family", FAMILIES)
def test_more_bits_leave_a_smaller_error(family: tuple[str, ...]) -> None:
    made = [encode(weight(), name) for name in family]
    for fewer, more in pairwise(made):
        assert fewer.bits_per_weight < more.bits_per_weight
        assert error(fewer) > 1.5 * error(more)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("type_name", WEIGHTED)
def test_a_column_that_matters_most_is_stored_best(type_name: str) -> None:
    def squares(stored: GgmlTensor) -> np.ndarray:
        return ((stored.floats() - weight()) ** 2).mean(axis=0)

    plain, protected = squares(encode(weight(), type_name)), squares(encode(weight(), type_name, importance()))
    assert protected[HEAVY] < 0.5 * plain[HEAVY]
    assert protected.mean() > plain.mean(), "the others pay for it"


@pytest.mark.usefixtures("library")
def test_no_8_bit_code_is_further_than_half_a_step() -> None:
    blocks = weight().reshape(ROWS, -1, 32)
    step = np.abs(blocks).max(axis=2, keepdims=True) / 127
    lost = np.abs(encode(weight(), "Q8_0").floats().reshape(blocks.shape) - blocks)
    assert (lost <= step * (0.5 + 127 * 2.0**-11)).all(), "half a step, and what half precision takes from the scale"


@pytest.mark.parametrize("type_name", ["F32", "F16"])
def test_floats_have_any_shape(type_name: str) -> None:
    made = encode(weight()[0], type_name)
    assert made.shape == (COLUMNS,)
    assert np.array_equal(made.data, weight()[0].astype(made.data.dtype))


@pytest.mark.usefixtures("library")
def test_zeros_stay_zeros() -> None:
    for type_name in TYPES:
        assert not encode(np.zeros((2, 256), np.float32), type_name, np.ones(256, np.float32)).floats().any()


@pytest.mark.parametrize(
    ("weights", "type_name", "known", "said"),
    [
        (np.full((1, 256), np.nan), "Q8_0", None, "a NaN or an infinity"),
        (np.ones((1, 250)), "Q4_K", None, "250 columns do not divide into Q4_K's blocks of 256"),
        (np.ones(256), "Q4_K", None, r"stores matrices, and this has the shape \(256,\)"),
        (np.ones((1, 256)), "Q4_2", None, "'Q4_2' is not known here; choose one of: F32, F16, Q8_0"),
        (np.full((1, 256), 1e5), "F16", None, "1e\\+05 is beyond what F16 reaches"),
        (np.ones((1, 256)), "Q4_K", np.zeros(256), "above 0 in every column"),
        (np.ones((1, 256)), "Q4_K", np.full(256, np.inf), "finite"),
        (np.ones((1, 256)), "Q4_K", np.ones(255), r"of shape \(255,\) does not fit 256 columns"),
    ],
)
def test_what_cannot_be_encoded_is_told(weights: np.ndarray, type_name: str, known: Any, said: str) -> None:
    with pytest.raises(QuantizationError, match=said):
        encode(weights.astype(np.float32), type_name, known)


@pytest.mark.usefixtures("library")
def test_a_scale_that_half_precision_cannot_hold_is_told() -> None:
    with pytest.raises(QuantizationError, match=r"a scale of Q8_0 is beyond half precision.* 1e\+09; keep it F32"):
        encode(np.full((1, 256), 1e9, np.float32), "Q8_0")


@pytest.mark.parametrize("missing", ["llama_cpp", "gguf"])
def test_a_missing_extra_is_told_with_the_cure(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "llama_cpp._ctypes_extensions", raising=False)
    ggml.cache_clear()
    with pytest.raises(
        QuantizationError, match=rf'{missing}.* is not installed; run: pip install "edgedistill\[gguf\]"'
    ):
        ggml()
