"""What the controls of encoders are."""

from edgedistill.report.background import trained
from edgedistill.report.evidence import Evidence
from edgedistill.report.page import Cell, Table, missing, row
from edgedistill.report.units import interval, share


def baselines(evidence: Evidence) -> Table:
    """What each control is, in words, and its own metric on the test set."""
    rows = []
    for baseline in evidence.controls.baselines:
        own = baseline.evaluation.metrics.get("test")
        result = missing("not measured on the test set") if own is None else Cell(share(own), interval(own))
        rows.append(row(baseline.name.replace("_", " "), baseline.description, result))
    if evidence.controls.no_teacher is not None:
        own = evidence.controls.no_teacher.metrics.get("test")
        result = missing("not measured on the test set") if own is None else Cell(share(own), interval(own))
        training = evidence.controls.no_teacher_training
        alone = "gold labels" if evidence.corpus.labels else "the texts"
        rate = evidence.recipe.distill.control_learning_rate
        at_rate = "" if rate is None else f" at its own learning rate of {rate:g}"
        described = f"the same student, trained on {alone} alone{at_rate}"
        rows.append(row("no teacher", described if training is None else f"{described}: {trained(training)}", result))
    return Table("What the controls are", ("Control", "Description", "On the test set"), tuple(rows))
