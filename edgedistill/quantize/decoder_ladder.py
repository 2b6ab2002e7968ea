"""The ladder of a language model: where a scheme misses its gate, one group of tensors after another gets 8 bits.

A group stays widened if the model came nearer to the float student by it. The first try that passes is taken. Whoever
adds a group adds a line to GROUPS.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from typing import Any

from edgedistill.decoder_values import DecoderRung, HeldByGate, TensorFacts
from edgedistill.errors import QuantizationError
from edgedistill.progress import say
from edgedistill.quantize.importance import Importance
from edgedistill.quantize.rounded import StoredTensor
from edgedistill.quantize.widths import named_by
from edgedistill.values import Metric

MOST_NAMED = 3
NUMBERED = re.compile(r"\.(\d+)\.")

Decided = tuple[Mapping[str, StoredTensor], tuple[TensorFacts, ...], Importance | None]
"""Every tensor as it is stored, what is to be said of each, and the importance matrix that was used."""


@dataclass(frozen=True)
class Try:
    """Options, and what became of the model under them."""

    options: Any
    decided: Decided
    held: HeldByGate | None  # None where there is no gate

    @property
    def facts(self) -> tuple[TensorFacts, ...]:
        """What is to be said of each tensor."""
        return self.decided[1]

    @property
    def stored_bytes(self) -> int:
        """What all tensors take."""
        return sum(one.stored_bytes for one in self.facts)


@dataclass(frozen=True)
class Settled:
    """The try that is used in the end, and how it was found."""

    used: Try
    rungs: tuple[DecoderRung, ...] = ()
    repaired: str = ""  # which groups got 8 bits to pass the gate


@dataclass(frozen=True)
class Group:
    """Tensors that are widened together, told by their names."""

    name: str
    patterns: tuple[str, ...] = ()
    outermost: bool = False  # those of the first and the last layer

    def of(self, names: Sequence[str], layers: int) -> list[str]:
        """Return those of the names that are its tensors, of a model of so many layers."""
        found = [name for name in names if any(fnmatchcase(name, pattern) for pattern in self.patterns)]
        numbers = {name: int(number[1]) for name in names if (number := NUMBERED.search(name)) and self.outermost}
        return found + [name for name, layer in numbers.items() if layer in (0, layers - 1)]


GROUPS = (
    Group("the token table and the head", ("*embed_tokens.weight", "*wte.weight", "lm_head.weight")),
    Group("attention values and down projections", ("*.v_proj.weight", "*.down_proj.weight")),
    Group("the first and last layer", outermost=True),
    Group("all of attention", ("*attn.*",)),
)


def settle(options: Any, attempt: Callable[[Any], Try], groups: Sequence[Group] = GROUPS) -> Settled:
    """Return the first try that passes the gate, the recipe's own before all others.

    Args:
        options: of a method of language models.
        attempt: rounds the model under other options, and holds it against the float student.
        groups: what is widened, in order.

    Raises:
        QuantizationError: none passes; the text has every try with its numbers.
    """
    best = attempt(options)
    if best.held is None:
        return Settled(best)
    now = _rung("as the recipe says", best.held, best.stored_bytes)
    rungs, widened = [now], []
    if not now.passed:
        say(f"  the gate is missed: {told(now)}")
    for group in groups if options.repair else ():
        wider = _widened(group, best, options)
        if now.passed or wider is None:
            continue
        made = attempt(wider)
        assert made.held is not None, "the gate is in the options"
        rung = _rung(f"{group.name} as {options.WIDE}", made.held, made.stored_bytes)
        rungs.append(rung.model_copy(update={"kept": rung.passed or rung.kl.value < now.kl.value}))
        say(f"  {told(rung)}")
        if rungs[-1].kept:
            best, now = made, rung
            widened.append(group.name)
    if not now.passed:
        raise QuantizationError(_missed(options, rungs, best))
    return Settled(best, tuple(rungs), f"{', '.join(widened)} stored as {options.WIDE}" if widened else "")


def passes(held: HeldByGate) -> bool:
    """Whether the gate holds: KL by its value; what is lost counts only where its interval is above zero."""
    losses = [one for one in (held.metric_loss, held.answer_loss) if one is not None]
    return held.kl.value <= held.max_kl and all(one.value <= held.max_metric_loss or one.low <= 0 for one in losses)


def told(rung: DecoderRung) -> str:
    """Return one try in a line, with its numbers."""
    answers = "" if rung.answer_loss is None else f", of answers {_of(rung.answer_loss, 100)}"
    lost = f"points of right tokens lost {_of(rung.metric_loss, 100)}{answers}"
    return f"{rung.name}: KL {_of(rung.kl)} nats a token, {lost}, {rung.stored_bytes / 1e6:.3g} MB"


def _widened(group: Group, best: Try, asked: Any) -> Any:
    """Return the best options with the group's tensors at 8 bits; None where none has fewer now.

    What the recipe overrides stays as it is.
    """
    narrow = [
        one.name
        for one in best.facts
        if len(one.shape) == 2 and one.stored_bytes < prod(one.shape) and named_by(asked.overrides, one.name) is None
    ]
    numbers = [int(number[1]) for one in best.facts if (number := NUMBERED.search(one.name))]
    tensors = group.of(narrow, layers=1 + max(numbers, default=-1))
    if not tensors:
        return None
    overrides = {**best.options.overrides, **dict.fromkeys(tensors, asked.WIDE)}
    return type(asked).model_validate({**best.options.model_dump(), "overrides": overrides})


def _rung(name: str, held: HeldByGate, stored_bytes: int) -> DecoderRung:
    return DecoderRung(
        name=name, stored_bytes=stored_bytes, kl=held.kl, metric_loss=held.metric_loss, answer_loss=held.answer_loss,
        passed=passes(held), kept=True,
    )  # fmt: skip


def _missed(options: Any, rungs: Sequence[DecoderRung], best: Try) -> str:
    points = f"{options.gate.max_metric_loss * 100:g}"
    asked = f"KL at most {options.gate.max_kl:g}, points lost at most {points} where that is more than chance"
    after = "and no group of tensors at 8 bits mends it" if options.repair else "and repair is off"
    worst = sorted(best.facts, key=lambda one: -one.relative_error)[:MOST_NAMED]
    named = ", ".join(f"{one.name} ({one.type}, {one.relative_error:.1%} off)" for one in worst)
    return (
        f"{options.method} misses its gate on the validation split ({asked}), {after}: "
        f"{'; '.join(map(told, rungs))}; rounded most are {named}; choose a scheme with more bits, allow more in "
        "quantize.gate, or write gate: null"
    )


def _of(metric: Metric, times: int = 1) -> str:
    return f"{metric.value * times:.2g} ({metric.low * times:.2g} to {metric.high * times:.2g})"
