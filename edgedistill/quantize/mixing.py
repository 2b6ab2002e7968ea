"""Mixed widths: each layer measured alone at each width, the cheapest mixture chosen, and the whole model measured."""

from collections import Counter
from collections.abc import Mapping

from edgedistill.errors import QuantizationError
from edgedistill.progress import say
from edgedistill.quantize.decisions import Decision
from edgedistill.quantize.fewest_bytes import Form, Layers, Measured, fewest_bytes, worthwhile
from edgedistill.quantize.ladder import passes_metric, told, updated
from edgedistill.quantize.methods.mixed import Options
from edgedistill.quantize.sensitivity import sensitivities
from edgedistill.quantize.trial import Settled, Trial, changes
from edgedistill.section import LayerOptions, Width
from edgedistill.values import Rung, Sensitivity

Decisions = Mapping[str, Mapping[Width, Decision]]  # layer -> width -> decision


def mix(options: Options, trial: Trial, decisions: Decisions) -> Settled:
    """Return the mixture of widths that keeps the stated loss with few bytes; what a recipe overrides stays so.

    Args:
        options: the most that may be lost.
        trial: measures layers and mixtures.
        decisions: every layer that no override names, at the widths to choose from.

    Raises:
        QuantizationError: only the float student loses so little; the text has the numbers.
    """
    table = sensitivities(trial, [(name, one) for name, forms in decisions.items() for one in forms.values()])
    mixer = _Mixer(options, trial)
    try:
        widths = fewest_bytes(_layers(trial, decisions, table), options.max_kl, mixer.measure)
    except QuantizationError as error:
        raise QuantizationError(_out_of_reach(options, str(error), table, mixer.rungs)) from None
    used = mixer.options(widths)
    return Settled(used, trial.decide(used), tuple(mixer.rungs), sensitivity=table)


class _Mixer:
    """Measures mixtures, and keeps a record of each."""

    def __init__(self, asked: Options, trial: Trial) -> None:
        self.asked, self.trial = asked, trial
        self.rungs: list[Rung] = []

    def options(self, widths: Mapping[str, Width]) -> LayerOptions:
        """Return the options that give each layer its width: with these alone the same model comes out."""
        return updated(self.asked, {"overrides": {**self.asked.overrides, **widths}})

    def measure(self, widths: Mapping[str, Width]) -> Measured:
        """Return what the whole model costs at these widths."""
        used = self.options(widths)
        decided = self.trial.decide(used)
        cost = self.trial.judge.cost(decided)
        holds = cost.kl <= self.asked.max_kl and passes_metric(self.asked.max_metric_loss, cost)
        counts = Counter(widths.values())
        rung = Rung(
            name=", ".join(f"{counts[width]} x {width}" for width in sorted(counts)), changed=changes(self.asked, used),
            stored_bytes=self.trial.stored_bytes(decided), cost=cost, passed=holds, kept=holds, skipped="",
        )  # fmt: skip
        self.rungs.append(rung)
        say(f"  {told(rung)}")
        return Measured(cost.kl, holds)


def _layers(trial: Trial, decisions: Decisions, table: tuple[Sensitivity, ...]) -> Layers:
    """Return the worthwhile forms of each layer, with what it loses alone."""
    kl = {(one.layer, one.scheme): one.cost.kl for one in table}
    layers = {}
    for name, forms in decisions.items():
        float_bytes = int(trial.model.get_submodule(name).weight.nbytes)
        made = [
            Form(width, float_bytes - trial.saved_bytes(name, one), kl[name, one.scheme])
            for width, one in forms.items()
        ]
        layers[name] = worthwhile([*made, Form("float32", float_bytes, 0.0)])
    return layers


def _out_of_reach(options: Options, what: str, table: tuple[Sensitivity, ...], rungs: list[Rung]) -> str:
    promised = f"max_kl: {options.max_kl:g} and max_metric_loss: {options.max_metric_loss:g}"
    alone = f"; by itself, {table[-1].layer} as {table[-1].scheme} costs {table[-1].cost.kl:.2g} nats" if table else ""
    tried = "".join(f"; {told(rung)}" for rung in rungs)
    return f"mixed: {what} within {promised}{alone}{tried}; allow more, or use another method"
