"""The ladder: when a scheme misses its gate, other options are tried one after the other, and each try is logged.

A rung builds on the best try so far, by KL divergence, so that a change that made things worse is not carried on. The
first try that passes is taken. Whoever adds a rung adds a line to LADDER: a rung whose option a method has not got is
no rung of that method.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgedistill import registry
from edgedistill.errors import QuantizationError
from edgedistill.progress import say
from edgedistill.quantize.decisions import Decision
from edgedistill.quantize.methods._gate import Gate
from edgedistill.quantize.sensitivity import sensitivities
from edgedistill.quantize.trial import METHODS, Settled, Trial, changes
from edgedistill.quantize.widths import named_by
from edgedistill.section import LayerOptions
from edgedistill.values import QuantizationCost, Rung, Sensitivity

SLACK = 1e-9  # shares of rows are quotients, rounded


def seven_bits_lose(options: LayerOptions) -> str:
    """Return why seven bits cannot raise what is measured here: they keep a kernel's sums from saturating."""
    method: Any = registry.load(METHODS, options.method)
    reduced, reason = method.decide_range(options)
    said = "codes have 7 bits already" if reduced else "sums are exact in the simulation, where 7 bits can only lose"
    return f"{said} ({reason})"


@dataclass(frozen=True)
class Step:
    """One rung: options to change, or how many of the most sensitive layers to leave float32."""

    name: str
    update: Mapping[str, Any] = field(default_factory=dict)
    replaces: Mapping[str, Any] = field(
        default_factory=dict
    )  # a rung only where these had these values; method: as asked
    exclude: int = 0
    useless: Callable[[Any], str] | None = None  # why there is no point in trying


DYNAMIC = {"method": "dynamic_int8"}
LADDER = (
    Step("one scale for each output channel", {"granularity": "per_channel"}),
    Step("7-bit codes", {"reduced_range": "always"}, useless=seven_bits_lose),
    Step("smoothing 0.75", {"smoothing": 0.75}, replaces={"smoothing": None}),
    Step("smoothing 0.5", {"smoothing": 0.5}),
    Step("codes chosen together", {"rounding": "gptq"}),
    Step("input ranges by percentile", {"ranges": "percentile"}, replaces={"ranges": "min_max"}),
    Step("input ranges by entropy", {"ranges": "entropy"}),
    Step("a zero point for each group", {"symmetric": False}),
    Step("groups of 16 columns", {"group_size": 16}),
    Step("tables of 8 bits", {"embeddings": "int8"}, replaces={"embeddings": "int4"}),
    Step("the most sensitive layer float32", exclude=1),
    Step("the 2 most sensitive layers float32", exclude=2),
    Step("the 4 most sensitive layers float32", exclude=4),
    Step("static ranges by percentile", {"method": "static_int8", "ranges": "percentile"}, replaces=DYNAMIC),
    Step("static ranges by entropy", {"method": "static_int8", "ranges": "entropy"}, replaces=DYNAMIC),
)


def climb(options: LayerOptions, trial: Trial, ladder: Sequence[Step] = LADDER) -> Settled:
    """Return the first options that pass the gate, the recipe's own before all others.

    Raises:
        QuantizationError: none passes; the text has every rung with its numbers.
    """
    gate: Gate | None = getattr(options, "gate", None)
    decided = trial.decide(options)
    if gate is None or not decided:
        return Settled(options, decided)
    climber = _Climber(options, gate, trial, _tried("as the recipe says", options, options, decided, gate, trial))
    repair = bool(getattr(options, "repair", False))
    for step in ladder if repair else ():
        if climber.best.rung.passed:
            break
        climber.step(step)
    if not climber.best.rung.passed:
        raise QuantizationError(_missed(options.method, gate, climber.rungs, repair))
    best = climber.best
    return Settled(best.options, best.decided, tuple(climber.rungs), climber.repaired, climber.ranking)


def passes(gate: Gate, cost: QuantizationCost) -> bool:
    """Whether the gate holds by the measured values; of few rows one may differ, since no share is finer than that."""
    flipped = 1 - cost.agreement.value
    agrees = flipped <= max(1 - gate.min_agreement, 1 / cost.rows) + SLACK
    near = gate.max_kl is None or cost.kl <= gate.max_kl
    return agrees and near and passes_metric(gate.max_metric_loss, cost)


def passes_metric(max_metric_loss: float, cost: QuantizationCost) -> bool:
    """Whether no more of the metric is lost than that, or than one row; where there is no gold, nothing is."""
    lost = cost.metric_loss
    return lost is None or lost.value <= max(max_metric_loss, 1 / lost.n) + SLACK


@dataclass(frozen=True)
class _Try:
    """Options that were tried, and what came of them."""

    rung: Rung
    options: LayerOptions
    decided: Mapping[str, Decision]
    kl: float


class _Climber:
    """Where a climb stands: every rung so far, and the best of them."""

    def __init__(self, asked: LayerOptions, gate: Gate, trial: Trial, first: _Try) -> None:
        self.asked, self.gate, self.trial, self.best = asked, gate, trial, first
        self.rungs = [first.rung]
        self.ranking: tuple[Sensitivity, ...] = ()
        self.changed: dict[
            str, str
        ] = {}  # which options were changed -> how, in words; what is changed again is said once
        if not first.rung.passed:
            say(f"  the gate is missed: {told(first.rung)}")

    @property
    def repaired(self) -> str:
        """What the best try changed, in words."""
        return "; ".join(self.changed.values())

    def step(self, step: Step) -> None:
        """Try one rung on top of the best try, and keep it if it is better."""
        try:
            options = self._options(step)
            if options is None:
                return
            decided = self.trial.decide(options)
            made = _tried(step.name, self.asked, options, decided, self.gate, self.trial)
        except QuantizationError as error:
            self._log(_skipped(step.name, str(error)))
            return
        better = made.rung.passed or made.kl < self.best.kl
        self._log(made.rung.model_copy(update={"kept": better}))
        if better:
            self.best = replace(made, rung=self.rungs[-1])
            self.changed["exclude" if step.exclude else ", ".join(step.update)] = step.name

    def _log(self, rung: Rung) -> None:
        self.rungs.append(rung)
        say(f"  {told(rung)}")

    def _options(self, step: Step) -> LayerOptions | None:
        """Return the best options with this step's change; None where that changes nothing, or is no option here.

        Raises:
            QuantizationError: there is no point in trying; the text says why.
        """
        if step.exclude:
            return self._without(step.exclude)
        own = self.best.options.model_dump()
        known = _kind(step.update.get("method", own["method"])).model_fields.keys()
        if not step.update.keys() <= known or step.update.items() <= own.items():
            return None
        if not step.replaces.items() <= {**own, "method": self.asked.method}.items():
            return None
        if step.useless is not None:
            raise QuantizationError(step.useless(self.best.options))
        return updated(self.best.options, step.update)

    def _without(self, count: int) -> LayerOptions:
        """Return the best options with the most sensitive layers float32; what the recipe overrides stays as it is."""
        given = self.asked.overrides
        if not self.ranking:
            own = {name: one for name, one in self.best.decided.items() if named_by(given, name) is None}
            self.ranking = sensitivities(self.trial, own.items())
        if count >= len(self.ranking):
            raise QuantizationError(f"only {len(self.ranking)} layers are quantized")
        excluded = {one.layer: "float32" for one in self.ranking[:count]}
        return updated(self.best.options, {"overrides": {**given, **excluded}})


def updated(options: LayerOptions, update: Mapping[str, Any]) -> LayerOptions:
    """Return the options with some of them changed, checked as a recipe's are; of another method, those it shares."""
    kind = _kind(update.get("method", options.method))
    shared = {name: value for name, value in options.model_dump().items() if name in kind.model_fields}
    return kind.model_validate({**shared, **update})


def _kind(method: str) -> type[LayerOptions]:
    kind: type[LayerOptions] = registry.load(METHODS, method).Options
    return kind


def told(rung: Rung) -> str:
    """Return one rung in a line, with its numbers."""
    if rung.cost is None:
        return f"{rung.name}: not tried, {rung.skipped}"
    cost = rung.cost
    parts = [f"agreement {_percent(cost.agreement)}"]
    if cost.metric is not None and cost.metric_loss is not None:
        parts += [f"metric {_percent(cost.metric)}, {_points(cost.metric_loss)} points lost"]
    parts += [f"divergence {cost.kl:.2g}", f"{rung.stored_bytes / 1e6:.3g} MB"]
    return f"{rung.name}: {', '.join(parts)}"


def _tried(
    name: str, asked: LayerOptions, options: LayerOptions, decided: Mapping[str, Decision], gate: Gate, trial: Trial
) -> _Try:
    cost = trial.judge.cost(decided)
    rung = Rung(
        name=name, changed=changes(asked, options), stored_bytes=trial.stored_bytes(decided), cost=cost,
        passed=passes(gate, cost), kept=True, skipped="",
    )  # fmt: skip
    return _Try(rung, options, decided, cost.kl)


def _skipped(name: str, reason: str) -> Rung:
    return Rung(name=name, changed={}, stored_bytes=0, cost=None, passed=False, kept=False, skipped=reason)


def _missed(method: str, gate: Gate, rungs: Sequence[Rung], repair: bool) -> str:
    rows = rungs[0].cost.rows if rungs[0].cost is not None else 0
    asked = f"at least {gate.min_agreement:.1%} agreement, at most {gate.max_metric_loss * 100:.2g} points lost"
    asked += "" if gate.max_kl is None else f", at most {gate.max_kl:g} divergence"
    after = "and no rung of the ladder mends it" if repair else "and repair is off"
    table = "; ".join(told(rung) for rung in rungs)
    cure = "ask less of quantize.gate, choose wider overrides, or write gate: null"
    return f"{method} misses its gate on {rows} validation rows ({asked}), {after}: {table}; {cure}"


def _percent(metric: Any) -> str:
    return f"{metric.value:.1%} ({metric.low * 100:.1f} to {metric.high * 100:.1f})"


def _points(metric: Any) -> str:
    return f"{metric.value * 100:.2g} ({metric.low * 100:.2g} to {metric.high * 100:.2g})"
