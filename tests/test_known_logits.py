"""What is kept of a teacher's distribution: drawn tokens are right on average; nothing is renormalised in silence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgedistill import registry
from edgedistill.distill.decoder.signals import _Kept
from edgedistill.tasks.text_generation import CacheOptions, Options
from edgedistill.training.known_logits import REST, Known, KnownLogits, drawn

POSITIONS, VOCABULARY = 5, 40
FORWARD_KL = registry.load("edgedistill.distill.losses", "forward_kl")
OPTIONS = FORWARD_KL.Options(loss="forward_kl", temperature=1.0)


def logits(seed: int, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(POSITIONS, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def kept(teacher: torch.Tensor, folder: Path, seed: int = 0, **options: object) -> KnownLogits:
    """Return what is read back from disk."""
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    entries, tokens, weights = drawn(teacher.softmax(dim=-1), CacheOptions.model_validate(options), generator)
    files = [folder / name for name in ("offsets.npy", "tokens.npy", "weights.npy")]
    for file, array in zip(files, (np.concatenate([[0], np.cumsum(entries)]), tokens, weights), strict=True):
        np.save(file, array)
    return KnownLogits(*files)


def loss(student: torch.Tensor, known: Known) -> torch.Tensor:
    return FORWARD_KL.loss_of_known(OPTIONS, student, known)


def gradient(student: torch.Tensor, known: Known) -> torch.Tensor:
    student = student.clone().requires_grad_()
    loss(student, known).backward()
    assert student.grad is not None
    return student.grad


def exact_gradient(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    student = student.clone().requires_grad_()
    F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True).backward()
    assert student.grad is not None
    return student.grad


@pytest.mark.parametrize("way", ["sampled", "top_k"])
def test_weights_of_a_position_sum_to_one_and_are_read_in_any_order(way: str, tmp_path: Path) -> None:
    known = kept(logits(0), tmp_path, way=way, k=7)
    read = known.at(np.array([3, 0, 3]))
    sums = torch.zeros(3).index_add(0, read.place, read.weights)
    assert torch.allclose(sums, torch.ones(3))
    first, again = (read.tokens[read.place == place] for place in (0, 2))
    assert torch.equal(first, again)
    assert torch.equal(known.at(np.array([0])).tokens, read.tokens[read.place == 1])


def test_drawn_tokens_are_counted(tmp_path: Path) -> None:
    read = kept(logits(0), tmp_path, way="sampled", draws=50).at(np.arange(POSITIONS))
    for place in range(POSITIONS):
        tokens, weights = read.tokens[read.place == place], read.weights[read.place == place]
        assert len(set(tokens.tolist())) == len(tokens)
        assert torch.allclose(weights * 50, (weights * 50).round(), atol=1e-4)


def bias(way: str, tmp_path: Path, **options: object) -> float:
    """Return how far the mean of many gradients is from that of the whole distribution, as a share of its length."""
    teacher, student = logits(1), logits(2)
    wanted = exact_gradient(student, teacher)
    found = [
        gradient(student, kept(teacher, tmp_path / way, seed, way=way, **options).at(np.arange(POSITIONS)))
        for seed in range(200)
    ]
    return float((torch.stack(found).mean(dim=0) - wanted).norm() / wanted.norm())


def test_the_gradient_is_right_on_average_where_tokens_are_drawn_and_only_there(
    tmp_path: Path,
) -> None:
    assert bias("sampled", tmp_path, draws=50) < 0.03
    assert bias("top_k", tmp_path, k=3) > 0.1, "even with an entry for the rest"


def test_the_likeliest_tokens_and_the_rest_are_a_coarser_distribution(tmp_path: Path) -> None:
    teacher, student = logits(1), logits(2)
    read = kept(teacher, tmp_path, way="top_k", k=6).at(np.arange(POSITIONS))
    assert (read.tokens == REST).sum() == POSITIONS
    given, said = teacher.softmax(-1), student.softmax(-1)
    top = given.topk(6, dim=1).indices

    def coarse(whole: torch.Tensor) -> torch.Tensor:
        named = whole.gather(1, top)
        return torch.cat([named, 1 - named.sum(dim=1, keepdim=True)], dim=1)

    expected = F.kl_div(coarse(said).log(), coarse(given), reduction="batchmean")
    assert float(loss(student, read)) == pytest.approx(float(expected), rel=2e-3), "weights are float16"
    assert loss(student, read) < F.kl_div(said.log(), given, reduction="batchmean"), "a coarser view sees less"


@pytest.mark.parametrize("way", ["sampled", "top_k"])
def test_a_student_that_gives_what_is_known_loses_nothing(way: str, tmp_path: Path) -> None:
    teacher = logits(1)
    read = kept(teacher, tmp_path, way=way, k=6, draws=200).at(np.arange(POSITIONS))
    if way == "sampled":  # its best student is the sample itself
        frequencies = torch.full((POSITIONS, VOCABULARY), 1e-9).index_put((read.place, read.tokens), read.weights)
        teacher = frequencies.log()
    assert abs(float(loss(teacher, read))) < 1e-3


def test_every_token_is_kept_as_float16(tmp_path: Path) -> None:
    teacher = logits(3, scale=8.0)
    known = kept(teacher, tmp_path, way="dense")
    assert known.every_token
    read = known.dense_at(np.array([4, 1]))
    assert torch.allclose(read, teacher.log_softmax(-1)[[4, 1]], rtol=2e-3, atol=2e-3), "unlikely tokens as well"
    assert torch.allclose(read.exp().sum(-1), torch.ones(2))


def test_an_empty_batch_is_refused(tmp_path: Path) -> None:
    nothing = Known(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0))
    with pytest.raises(ValueError, match="no position"):
        loss(torch.empty(0, VOCABULARY), nothing)


def test_a_teachers_rows_that_stand_for_no_token_have_no_share(tmp_path: Path) -> None:
    unsaid = torch.full((POSITIONS, 3), 9.0)
    options = Options.model_validate({"kind": "text_generation", "cache": {"way": "top_k", "k": 6}})
    teacher = _Kept(lambda *_: torch.cat([logits(1), unsaid], dim=1), options, VOCABULARY, None)
    nothing: Any = None
    _, tokens, weights, _ = teacher.about(nothing, np.arange(2))
    wanted = drawn(logits(1).softmax(dim=-1), options.cache, torch.Generator())
    assert tokens.tolist() == wanted[1].tolist()
    assert np.allclose(weights, wanted[2], atol=1e-3)
