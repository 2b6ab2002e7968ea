"""What every section of a recipe keeps."""

import math

import pytest
from pydantic import BaseModel, ValidationError

from edgedistill.section import LossOptions, Section


class Part(Section):
    number: float = 1.0


class Forgiving(BaseModel):
    number: float = 1.0


def test_an_unknown_key_is_an_error_and_plain_pydantic_would_let_it_pass() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Part.model_validate({"numbr": 2})
    assert Forgiving.model_validate({"numbr": 2}).number == 1.0


def test_nothing_changes_after_loading() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Part(number=2).number = 3  # type: ignore[misc]  # what mypy sees, a notebook does not


@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_a_number_is_finite(number: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Part(number=number)


@pytest.mark.parametrize("weight", [0, -1])
def test_a_loss_that_weighs_nothing_is_refused(weight: float) -> None:
    with pytest.raises(ValidationError, match="greater"):
        LossOptions(loss="any", weight=weight)
