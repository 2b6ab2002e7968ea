"""A search tries what it says, from one start, judges on validation alone, and costs a kill no trial that had ended."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_distill import DISTILL, make_tokens, sealed

from edgedistill import registry
from edgedistill.distill import search as module
from edgedistill.distill.mixture import Mixture, mixed, mixtures, own, with_best
from edgedistill.distill.search import LUCK, judged, search
from edgedistill.models.students import static
from edgedistill.recipe_sections import DistillOptions, SearchOptions
from edgedistill.statistics import difference
from edgedistill.student_values import Search
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Corpus, Epoch, Signals, Teacher, Training

STATIC = static.Options(kind="static", dimensions=16, hidden_size=8)
ASKED = SearchOptions(temperatures=(2.0, 8.0), soft_weights=(0.5, 1.0), epochs=2)
TRIED = (Mixture(2.0, 0.9), Mixture(2.0, 0.5), Mixture(8.0, 0.5), Mixture(2.0, 1.0), Mixture(8.0, 1.0))


def losses_of(*losses: dict[str, Any]) -> Any:
    return DistillOptions.model_validate({"losses": losses}).losses


BOTH = losses_of({"loss": "cross_entropy", "weight": 0.5}, {"loss": "forward_kl", "weight": 1.5, "temperature": 3})
SOFT_ALONE = losses_of({"loss": "forward_kl", "weight": 5.0, "temperature": 3})


def test_every_pair_is_tried_once_and_the_recipes_own_first() -> None:
    assert mixtures(ASKED, DISTILL.losses) == TRIED
    by_default = mixtures(SearchOptions(), DISTILL.losses)
    assert by_default[0] == Mixture(2.0, 0.9)
    assert sorted(by_default) == [(t, w) for t in (1.0, 2.0, 4.0, 8.0) for w in (0.5, 0.9, 1.0)]
    assert mixtures(SearchOptions(), BOTH)[0] == Mixture(3.0, 0.75)
    assert len(mixtures(SearchOptions(), BOTH)) == 13


def test_without_gold_only_the_temperature_is_searched() -> None:
    assert mixtures(SearchOptions(), SOFT_ALONE) == tuple(Mixture(float(t), 1.0) for t in (3, 1, 2, 4, 8))


def test_a_mixture_shares_out_the_weight_that_the_recipe_gave() -> None:
    gold, soft = mixed(BOTH, Mixture(8.0, 0.75))
    assert (gold.loss, soft.loss) == ("cross_entropy", "forward_kl")
    assert (gold.weight, soft.weight, soft.temperature) == (0.5, 1.5, 8.0)
    gold, soft = mixed(BOTH, Mixture(1.0, 0.5))
    assert (gold.weight, soft.weight, soft.temperature) == (1.0, 1.0, 1.0)
    (alone,) = mixed(BOTH, Mixture(4.0, 1.0))
    assert (alone.loss, alone.weight, alone.temperature) == ("forward_kl", 2.0, 4.0)
    (alone,) = mixed(SOFT_ALONE, Mixture(4.0, 1.0))
    assert (alone.weight, alone.temperature) == (5.0, 4.0)
    assert mixed(BOTH, own(BOTH)) == BOTH


def test_another_loss_stays_as_it_is() -> None:
    other = registry.load("edgedistill.distill.losses", "cross_entropy").Options(loss="cross_entropy", weight=7.0)
    other = other.model_copy(update={"loss": "something_else"})
    for mixture in (Mixture(4.0, 1.0), Mixture(1.0, 0.5)):
        assert mixed((*BOTH, other), mixture)[-1] == other


def told(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


class Validation:
    """Four texts: the teacher is wrong on the last one."""

    labels = np.array([0, 1, 1, 1])
    outputs = told((2, -2), (-2, 2), (-2, 2), (2, -2))


RIGHT_AND_APART = told((1, -1), (-1, 1), (-1, 1), (-1, 1))  # 4 of 4 on gold, 3 of 4 with the teacher
LIKE_THE_TEACHER = told((1, -1), (-1, 1), (-1, 1), (1, -1))  # 3 of 4, 4 of 4
THE_TEACHER = Validation.outputs
OTHER_MISTAKE = told((1, -1), (-1, 1), (1, -1), (-1, 1))  # 3 of 4, 2 of 4


def trained(logits: np.ndarray) -> tuple[np.ndarray, Training]:
    curve = (Epoch(epoch=1, train_loss=1, validation_loss=1, validation_metric=0.5, learning_rate=0.1),)
    return logits, Training(curve=curve, best_epoch=1, steps=9, seconds=2, rows=9, seed=0, device="cpu", threads=1)


@pytest.mark.parametrize(
    ("logits", "best"),
    [
        ((LIKE_THE_TEACHER, THE_TEACHER, RIGHT_AND_APART), 2),  # the metric before anything else
        ((OTHER_MISTAKE, LIKE_THE_TEACHER), 1),  # then agreement
        ((LIKE_THE_TEACHER, THE_TEACHER), 1),  # then divergence
        ((OTHER_MISTAKE, THE_TEACHER, THE_TEACHER), 1),  # of equals the first
    ],
)
def test_the_best_is_judged_in_this_order(logits: tuple[np.ndarray, ...], best: int) -> None:
    validation: Any = Validation()
    trials, found = judged(TRIED[: len(logits)], [trained(one) for one in logits], validation)
    assert found == best
    assert trials[found].behind is None
    for trial, said in zip(trials, logits, strict=True):
        right = said.argmax(axis=1) == Validation.labels
        assert trial.metric.value == right.mean()
        assert trial.agreement == (said.argmax(axis=1) == Validation.outputs.argmax(axis=1)).mean()
        if trial.behind is not None:
            assert trial.behind == difference(logits[best].argmax(axis=1) == Validation.labels, right)


def test_divergence_is_that_of_the_two_distributions_whatever_the_temperature() -> None:
    validation: Any = Validation()
    trials, _ = judged((Mixture(8.0, 1.0),) * 2, [trained(THE_TEACHER), trained(OTHER_MISTAKE)], validation)
    p, q = (torch.from_numpy(logits).double().softmax(dim=1) for logits in (THE_TEACHER, OTHER_MISTAKE))
    assert trials[0].divergence == 0
    assert trials[1].divergence == pytest.approx(float((p * (p / q).log()).sum(dim=1).mean()), rel=1e-6)


def test_rows_without_a_label_count_for_the_teacher_alone() -> None:
    validation: Any = Validation()
    validation.labels = np.array([0, 1, -1, -1])
    trials, _ = judged(TRIED[:1], [trained(OTHER_MISTAKE)], validation)
    assert (trials[0].metric.value, trials[0].metric.n, trials[0].agreement) == (1.0, 2, 0.5)


def searched(
    folder: Path, teacher: Teacher, corpus: Corpus, signals: Signals, options: DistillOptions = DISTILL
) -> Search:
    folder.mkdir(parents=True, exist_ok=True)
    values = {"teacher": teacher, "corpus": corpus, "signals": signals}
    found = search(ASKED, options, STATIC, **values, tokens=make_tokens(folder / "tokens", **values), folder=folder)
    return sealed(folder, found)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, teacher: Teacher, corpus: Corpus, signals: Signals) -> Search:
    return searched(tmp_path_factory.mktemp("search"), teacher, corpus, signals)


def timeless(value: Search) -> dict[str, Any]:
    return value.model_copy(update={"seconds": 0.0}).model_dump()


def test_every_trial_is_told(found: Search) -> None:
    assert tuple(Mixture(trial.temperature, trial.soft_weight) for trial in found.trials) == TRIED
    assert found.epochs == 2
    assert all(1 <= trial.best_epoch <= 2 for trial in found.trials)
    assert found.trials[found.chosen].metric.value == max(trial.metric.value for trial in found.trials)
    assert len({trial.divergence for trial in found.trials}) == len(TRIED), "the mixture has an effect"


class Watch:
    """Lets every training happen, and remembers what it started from and how it ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fatal: int = 0) -> None:
        self.starts: list[dict[str, torch.Tensor]] = []
        self.ends: list[Training] = []
        self.options: list[DistillOptions] = []
        self._train, self._fatal = module.train, fatal
        monkeypatch.setattr(module, "train", self)

    def __call__(self, model: Any, rows: Any, objective: Any, options: Any, progress: Path, what: str) -> Training:
        if len(self.starts) + 1 == self._fatal:
            raise KeyboardInterrupt
        self.starts.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        self.options.append(options)
        self.ends.append(self._train(model, rows, objective, options, progress, what))
        return self.ends[-1]


def test_all_start_alike_run_to_the_end_and_are_judged_by_the_tasks_own_metric(
    found: Search, teacher: Teacher, corpus: Corpus, signals: Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    assert timeless(searched(tmp_path, teacher, corpus, signals)) == timeless(found)
    assert len(watch.starts) == len(TRIED)
    assert all(torch.equal(start[name], watch.starts[0][name]) for start in watch.starts for name in start)
    assert {(options.seed, options.epochs, options.patience) for options in watch.options} == {(0, 2, None)}
    for trial, training in zip(found.trials, watch.ends, strict=True):
        assert training.curve[training.best_epoch - 1].validation_metric == pytest.approx(trial.metric.value)


@pytest.mark.parametrize("fatal", range(1, len(TRIED) + 1))
def test_a_killed_search_repeats_at_most_one_trial_and_ends_the_same(
    found: Search,
    fatal: int,
    teacher: Teacher,
    corpus: Corpus,
    signals: Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        Watch(patch, fatal=fatal)
        with pytest.raises(KeyboardInterrupt):
            searched(tmp_path, teacher, corpus, signals)
    watch = Watch(monkeypatch)
    assert timeless(searched(tmp_path, teacher, corpus, signals)) == timeless(found)
    assert len(watch.starts) == len(TRIED) - fatal + 1
    assert not list(tmp_path.rglob("*.safetensors")), "a trial's weights go when it has ended"


def test_nothing_but_train_and_validation_is_read(
    teacher: Teacher, corpus: Corpus, signals: Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = set()

    def watched(value: Signals, name: str, *more: Any) -> SplitSignals:
        names.add(name)
        return SplitSignals(value, name, *more)

    monkeypatch.setattr(module, "SplitSignals", watched)
    searched(tmp_path, teacher, corpus, signals)
    assert names == {"train", "validation"}


@pytest.mark.parametrize(("others", "warned"), [(1.0, False), (0.55, True), (0.0, False)])
def test_a_choice_that_may_be_luck_is_told(
    others: float,
    teacher: Teacher,
    corpus: Corpus,
    signals: Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    warned: bool,
) -> None:
    """The recipe's own trial is right on the first half of the texts, the others on a share of them."""
    labels = SplitSignals(signals, "validation").labels
    right = np.eye(2, dtype=np.float32)[labels]

    def once(_: Any, mixture: Mixture, what: str, name: str) -> tuple[np.ndarray, Training]:
        share = 0.5 if mixture == TRIED[0] else others
        return trained(np.where(np.arange(len(labels))[:, None] < share * len(labels), right, -right))

    monkeypatch.setattr(module._Learner, "once", once)
    made = searched(tmp_path, teacher, corpus, signals)
    assert (made.chosen == 0) is (others == 0.0)
    assert made.warning == (LUCK if warned else None)
    assert made.seconds == 2 * len(TRIED)


def test_the_student_is_trained_with_what_was_chosen(found: Search) -> None:
    for place, mixture in enumerate(TRIED):
        options = with_best(DISTILL, found.model_copy(update={"chosen": place}))
        assert options.losses == mixed(DISTILL.losses, mixture)
        assert options.model_copy(update={"losses": DISTILL.losses}) == DISTILL
    assert with_best(DISTILL, None) is DISTILL
