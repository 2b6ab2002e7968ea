"""What a build of a language model would cost: rough times and sizes of its stages, guessed from multiplications."""

from typing import Any

from edgedistill.models.anatomy import Anatomy
from edgedistill.models.layer_choice import ALL_EVERY, CHEAPEST
from edgedistill.models.student import cut_from_codes, own_checkpoint, starts_apart
from edgedistill.recipe import Recipe
from edgedistill.section import StudentOptions

FLOPS_PER_S = 4e10  # what two ordinary cores reach on matrices of this size
ENCODED_WEIGHTS_PER_S = 2e6  # of ggml's encoder, on one core
BYTES_PER_TOKEN = 5
BYTES_PER_PROMPT = 150
TOKENS_PER_ANSWER = 64
DECODED_BYTES_PER_S = 4e9  # of weights, which one token after another reads whole
START_BYTES = 10**6  # of what is measured of a teacher
READ_BYTES_PER_S = 5e5  # of texts, by two tokenizers, and decoded again by both
SMALL_S, BENCHMARK_S = 10.0, 180.0


def guesses(
    recipe: Recipe, data_bytes: int, train_bytes: int, prompt_bytes: int, models: tuple[Anatomy, ...]
) -> dict[str, tuple[float, int]]:
    """Return rough seconds and bytes by stage name, for a machine of two cores.

    Args:
        data_bytes: of all files.
        train_bytes: of those that train comes from.
        prompt_bytes: of prompts that the teacher is to answer, which are among these.
        models: teacher and student.
    """
    teacher, made = models
    task: Any = recipe.task
    fit = getattr(recipe.teacher, "fit", None)
    codes = not recipe.teacher.IN_PYTORCH
    taught_bytes = teacher.weights_bytes // 6 if codes else teacher.weights_bytes * (2 if fit else 1)
    train = min(train_bytes / BYTES_PER_TOKEN, task.train_tokens or float("inf"))
    judged = task.judged_positions * (2 + len(recipe.data.challenge))  # validation, test, and other domains
    vocabulary = made.vocab_size

    def seconds(model: Anatomy, tokens: float, passes: int = 1) -> float:
        return passes * tokens * model.flops_per_token / FLOPS_PER_S

    learning = seconds(made, train, 3 * recipe.distill.epochs) + seconds(made, judged)
    seeds = recipe.distill.seeds
    cached = {"sampled": 70, "top_k": 6 * task.cache.k, "dense": 2 * vocabulary}[task.cache.way]
    found = {
        "corpus": (SMALL_S, data_bytes),
        "teacher": (
            SMALL_S + (seconds(teacher, train, 3 * fit.epochs) if fit else 0), taught_bytes
        ),
        "signals": (SMALL_S + seconds(teacher, train + judged), round(cached * train + 2 * vocabulary * judged)),
        "student": (SMALL_S + learning, made.weights_bytes + 2 * vocabulary * judged),
        "controls": (
            SMALL_S + seconds(made, judged) + (seeds - 1) * learning + recipe.distill.controls * seeds * learning,
            round(24 * judged),
        ),
        "benchmark": (
            BENCHMARK_S + seconds(teacher, judged) + (1 + len(recipe.quantize)) * seconds(made, judged), 24 * judged
        ),
        "report": (SMALL_S, 10**6),
    }  # fmt: skip
    if starts_apart(recipe.student, recipe.teacher):
        measured = min(getattr(recipe.student, "calibration_tokens", 0), train)
        measured += _searched(recipe.student, teacher.layers, train)
        found["start"] = (
            SMALL_S + seconds(teacher, (2 if fit else 1) * measured),
            (made.weights_bytes if own_checkpoint(recipe.student) else START_BYTES)
            + (teacher.weights_bytes if cut_from_codes(recipe.student, recipe.teacher) else 0),
        )
    found["answers"] = _answering(recipe, prompt_bytes, teacher, data_bytes)
    if recipe.student.vocabulary is not None:
        found["tokens"] = (SMALL_S + data_bytes / READ_BYTES_PER_S, teacher.weights_bytes * (2 if fit else 1))
    calibrated = min(task.calibration_tokens, recipe.data.split.calibration * data_bytes / BYTES_PER_TOKEN)
    found["importance"] = (SMALL_S + seconds(made, calibrated), 10**6)
    for options in recipe.quantize:
        encoding = SMALL_S + made.parameters / ENCODED_WEIGHTS_PER_S + seconds(made, judged)
        if getattr(options, "gate", None) is not None:  # before it is rounded and after, on validation
            encoding += seconds(made, task.judged_positions, 2)
        found[f"quantize-{options.method}"] = (encoding, made.weights_bytes // 6)
    for layout in recipe.export:
        size = (0 if codes else teacher.weights_bytes // 2) + made.weights_bytes * (6 + len(recipe.quantize)) // 6
        found[f"export-{layout.format}"] = (3 * SMALL_S, size)
    return found


def _searched(options: StudentOptions, layers: int, train: float) -> float:
    """Return how many tokens a teacher of so many layers reads while layers are dropped one by one."""
    stay = getattr(options, "searched", None)
    if stay is None:
        return 0
    rounds = [CHEAPEST if gone % ALL_EVERY else layers - gone for gone in range(layers - stay)]
    return sum(rounds) * min(getattr(options, "search_tokens", 0), train)


def _answering(recipe: Recipe, prompt_bytes: int, teacher: Anatomy, data_bytes: int) -> tuple[float, int]:
    """Return the same of the teacher's answers to prompts."""
    task: Any = recipe.task
    tokens = prompt_bytes / BYTES_PER_PROMPT * min(TOKENS_PER_ANSWER, task.answers.max_tokens or task.max_length)
    alone = teacher.weights_bytes / DECODED_BYTES_PER_S
    together = max(alone / task.answers.batch_size, teacher.flops_per_token / FLOPS_PER_S)
    each = together if recipe.teacher.IN_PYTORCH else alone
    return SMALL_S + tokens * each, data_bytes + round(tokens * BYTES_PER_TOKEN)
