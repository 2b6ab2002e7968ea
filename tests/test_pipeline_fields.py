"""No field of a recipe is idle: at least one stage names it among its own needs.

That a stage comes after another does not count, nor that export needs the hash of the whole recipe: a field that only
these name would change no stage that reads it.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_build import RECIPE, write_recipe

from edgedistill import pipeline
from edgedistill.recipe import Recipe
from edgedistill.recipe_file import load
from edgedistill.run import Run, plain
from edgedistill.stages import Stage
from edgedistill.yaml_text import KeyPath, key_path, key_text

Stages = Callable[[Recipe, Path, Run], Mapping[str, Stage]]
NEW = Run(Path("no-such-run"))
SOURCE = {"source": "jsonl", "file": "other.jsonl"}
OTHER: dict[str, Any] = {
    "name": "other",
    "version": "0.1.1",
    "licence": "BSD-3-Clause",
    "task.labels": ["negative", "positive", "neutral"],
    "teacher.licence": "MIT",
    "teacher.model.path": "./teacher",
    "teacher.model": {"hub": "org/name", "revision": "abc"},
    "teacher.fit.method": "head",
    "teacher.fit.averaging": 0.99,
    "teacher.fit.mixed_precision": "bf16",
    "data.train.file": "other.jsonl",
    "data.train.text": "sentence",
    "data.train.separator": "|",
    "data.train.label": "stars",
    "data.unlabelled": SOURCE,
    "data.validation": SOURCE,
    "data.calibration": SOURCE,
    "data.test": SOURCE,
    "data.challenge.other.file": "train.jsonl",
    "data.challenge.other.text": "sentence",
    "data.challenge.other.label": "stars",
    "data.challenge.other.separator": "|",
    "data.split.salt": "another",
    "student": {"kind": "layers", "layers": 1},
    "distill.averaging": 0.99,
    "distill.control_learning_rate": 3e-5,
    "student.vocabulary": {"min_count": 2},
    "student.embedding_rank": 8,
    "distill.mixed_precision": "bf16",
    "distill.losses": [{"loss": "forward_kl"}],
    "distill.search.temperatures": [3.0],
    "distill.search.soft_weights": [0.8],
    "quantize[0].cpus": ["arm64"],
    "quantize[0].reduced_range": "always",
    "quantize[0].overrides": {"*": "float16"},
    "quantize[0].granularity": "per_tensor",
    "quantize[0].embeddings": "int4",
    "quantize[0].smoothing": 0.5,
    "quantize[0].gate.max_kl": 0.01,
    "quantize[0].rounding": "gptq",
    "export[0].exporter": "dynamo",
    "benchmark.target": "x86_64_avx2",
    "budget.min_retained_quality": 0.9,
    "budget.max_p90_latency_s": 0.1,
    "budget.max_peak_memory_bytes": 10**8,
    "budget.max_file_bytes": 10**7,
}
"""Another valid value where that is not a number a little larger, or the other of true and false."""
WHOLE = {"student", "teacher.model", "distill.losses"}
"""Sections that are exchanged whole, since no field of them can be by itself."""
LEFT_OUT = {
    "task.kind": "there is one task",
    "teacher.kind": "there is one kind of teacher",
    "teacher.model.hub": "the model lies in one place only: it is changed as a whole",
    "teacher.model.revision": "goes with hub",
    "teacher.model.package": "the model lies in one place only",
    "teacher.model.archive": "the model lies in one place only",
    "teacher.model.folder": "goes with package and archive",
    "teacher.model.file": "a checkpoint of an encoder is no GGUF file",
    "data.train.source": "a file of one format is none of another",
    "data.challenge.other.source": "a file of one format is none of another",
    "student.kind": "another kind has other fields: the student is changed as a whole",
    "distill.losses[0].loss": "another loss has other fields: the list is changed as a whole",
    "distill.losses[1].loss": "another loss has other fields",
    "quantize[0].method": "another method has other fields",
    "export[0].format": "there is one format",
}
"""Fields that have no other valid value by themselves, and why."""


def leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[str, Any]]:
    """Yield every field with its value; a list of plain values is one field."""
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from leaves(part, (*path, name))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for index, part in enumerate(value):
            yield from leaves(part, (*path, index))
    else:
        yield key_text(path), value


def another(key: str, value: Any) -> Any:
    """Return another valid value of a field."""
    if key in OTHER:
        return OTHER[key]
    if isinstance(value, bool):
        return not value
    assert isinstance(value, (int, float)), f"{key} is a new field: give it another value in OTHER"
    return value + 1 if isinstance(value, int) else value * 1.01 or 0.01


def changed(dumped: Mapping[str, Any], key: str, value: Any) -> Recipe:
    """Return a recipe with one field, or one section, replaced."""
    whole: Any = deepcopy(dumped)
    *way, last = key_path(key)
    place = whole
    for step in way:
        place = place[step]
    place[last] = value
    return Recipe.model_validate(whole)


def own_needs(stages: Stages, recipe: Recipe, base: Path) -> dict[str, Any]:
    """Return what each stage depends on by itself."""
    return {
        name: plain({need: value for need, value in stage.needs.items() if need not in ("after", "recipe_sha256")})
        for name, stage in stages(recipe, base, NEW).items()
    }


def idle(stages: Stages, file: Path) -> set[str]:
    """Return the fields of a recipe that no stage needs."""
    recipe = load(file)
    dumped = recipe.model_dump(mode="json")
    before = own_needs(stages, recipe, file.parent)
    wanted = {key: another(key, value) for key, value in leaves(dumped) if key not in LEFT_OUT}
    wanted |= {key: OTHER[key] for key in WHOLE}
    return {
        key for key, value in wanted.items() if own_needs(stages, changed(dumped, key, value), file.parent) == before
    }


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    every_section = RECIPE.replace("{epochs: 6", "{search: {}, augment: {}, epochs: 6")
    assert every_section != RECIPE
    return write_recipe(tmp_path_factory.mktemp("recipe"), every_section)


def test_every_field_is_a_need_of_some_stage(file: Path) -> None:
    assert idle(pipeline.stages, file) == set()


def test_what_is_left_out_or_given_another_value_is_a_field(file: Path) -> None:
    fields = dict(leaves(load(file).model_dump(mode="json")))
    assert LEFT_OUT.keys() <= fields.keys()
    assert OTHER.keys() - fields.keys() == WHOLE
    assert not LEFT_OUT.keys() & OTHER.keys()


@pytest.mark.parametrize(
    ("section", "field"), [("distill", "seed"), ("benchmark", "seconds"), ("task", "max_length"), ("data", "split")]
)
def test_a_field_that_no_stage_needs_is_seen(file: Path, section: str, field: str) -> None:
    def forgetful(*given: Any) -> dict[str, Stage]:
        made = {}
        for name, stage in pipeline.stages(*given).items():
            needs = plain(stage.needs)
            needs.get(section, {}).pop(field, None)
            made[name] = replace(stage, needs=needs)
        return made

    found = idle(forgetful, file)
    assert found
    assert all(key.startswith(f"{section}.{field}") for key in found)
