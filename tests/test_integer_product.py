"""Products of codes are exact, whatever the machine multiplies with."""

import numpy as np
import pytest
import torch

from edgedistill.models import integer_product as product
from edgedistill.models.integer_product import UNSIGNED_ZERO, integer_product

ZERO_POINTS = (0, 1, 128, 255)


@pytest.fixture(params=["integer instructions", "float64"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "float64":
        monkeypatch.setattr(product, "integers_are_exact", lambda: False)
    elif not product.integers_are_exact():
        pytest.skip("this CPU's integer products saturate")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("zero_point", ZERO_POINTS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 5), (7, 384, 64), (2, 1536, 384)])
def test_it_is_the_product_that_whole_numbers_have(shape: tuple[int, int, int], zero_point: int) -> None:
    rows, inner, columns = shape
    random = np.random.default_rng(0)
    quantized, codes = random.integers(0, 256, (rows, inner)), random.integers(-127, 128, (inner, columns))
    expected = ((quantized - zero_point) @ codes).astype(np.float32)
    given = integer_product(
        torch.from_numpy(quantized).float(), torch.tensor(zero_point), torch.from_numpy(codes.astype(np.int8))
    )
    assert given.dtype == torch.float32
    assert np.array_equal(given.numpy(), expected)
    unsigned = torch.from_numpy((codes + UNSIGNED_ZERO).astype(np.uint8))
    assert torch.equal(
        integer_product(torch.from_numpy(quantized).float(), torch.tensor(float(zero_point)), unsigned), given
    )


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("code", [-127, 127])
def test_sums_do_not_saturate_where_every_pair_is_as_large_as_it_can_be(code: int) -> None:
    codes = torch.full((1536, 16), code, dtype=torch.int8)
    given = integer_product(torch.full((2, 3, 1536), 255.0), torch.tensor(0), codes)
    assert torch.equal(given, torch.full((2, 3, 16), float(1536 * 255 * code)))


def test_a_cpu_whose_pairs_saturate_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        pairs = left.int().reshape(len(left), -1, 2, 1) * right.int().reshape(1, -1, 2, right.shape[1])
        return pairs.sum(2).clamp(-(2**15), 2**15 - 1).sum(1).int()

    monkeypatch.setattr(torch, "_int_mm", saturating)
    product.integers_are_exact.cache_clear()
    assert not product.integers_are_exact()
    product.integers_are_exact.cache_clear()
