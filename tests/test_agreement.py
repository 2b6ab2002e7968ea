"""Sections that cannot work together are found before any work, and a check runs as soon as its sections are valid."""

import inspect
from types import ModuleType
from typing import Any, ClassVar

import pytest
from recipe_texts import GOOD

from edgedistill import agreement, decoder_agreement, registry, yaml_text
from edgedistill.agreement import problems_between
from edgedistill.recipe import Recipe
from edgedistill.recipe_sections import AugmentOptions, SearchOptions
from edgedistill.section import FormatOptions, LossOptions, MethodOptions, StudentOptions, TaskOptions, TeacherOptions

OF_DECODERS = "gguf_f16, iq4_nl, onnx_int4, onnx_int8, q2_k, q3_k_m, q4_0, q4_k_m, q5_k_m, q6_k, q8_0"


@pytest.fixture(scope="module")
def sections() -> dict[str, Any]:
    recipe = Recipe.model_validate(yaml_text.read(GOOD).value)
    return {name: getattr(recipe, name) for name in Recipe.model_fields}


def _keys(sections: dict[str, Any], **changed: Any) -> list[str]:
    return [key for key, _ in problems_between({**sections, **changed})]


class Mute(TeacherOptions):
    kind: str = "mute"
    SIGNALS: ClassVar[frozenset[str]] = frozenset({"text"})
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_classification"})


class Other(LossOptions):
    loss: str = "other"
    NEEDS: ClassVar[frozenset[str]] = frozenset({"hidden_states", "logits"})
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_classification"})


class Blocks(MethodOptions):
    method: str = "blocks"
    SCHEME: ClassVar[str] = "ggml_blocks"
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_classification"})


class Ranker(StudentOptions):
    kind: str = "ranker"
    TASKS: ClassVar[frozenset[str]] = frozenset({"ranking"})


def test_a_good_recipe_has_no_problem(sections: dict[str, Any]) -> None:
    assert problems_between(sections) == []


def test_every_check_names_sections_of_the_recipe() -> None:
    for check in agreement.CHECKS:
        assert inspect.signature(check).parameters.keys() <= Recipe.model_fields.keys(), check.__name__


def test_every_check_of_the_module_is_run() -> None:
    written = {
        name
        for module in (agreement, decoder_agreement)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and set(inspect.signature(function).parameters) <= Recipe.model_fields.keys()
    } - {"_labelled"}
    assert written == {check.__name__ for check in agreement.CHECKS}


@pytest.mark.parametrize("check", agreement.CHECKS)
def test_a_check_waits_for_its_sections(check: Any, sections: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    needed = tuple(inspect.signature(check).parameters)
    ran: list[str] = []

    def spy(**given: Any) -> list[tuple[str, str]]:
        ran.append(",".join(given))
        return []

    spy.__signature__ = inspect.signature(check)  # type: ignore[attr-defined]
    monkeypatch.setattr(agreement, "CHECKS", (spy,))
    for missing in needed:
        problems_between({name: value for name, value in sections.items() if name != missing})
    assert not ran
    problems_between({name: sections[name] for name in needed})
    assert ran == [",".join(needed)]


def test_a_loss_needs_what_the_teacher_gives(sections: dict[str, Any]) -> None:
    assert _keys(sections, teacher=Mute()) == ["distill.losses[0].loss"]
    distill = sections["distill"].model_copy(update={"losses": (*sections["distill"].losses, Other())})
    found = problems_between({**sections, "distill": distill, "teacher": Mute()})
    assert [key for key, _ in found] == ["distill.losses[0].loss", "distill.losses[2].loss", "distill.losses[2].loss"]
    assert "'other' needs the teacher's hidden_states, and a teacher of kind 'mute' gives: text" in found[1][1]


ASKED = ["data.validation", "distill.losses[1].loss", "teacher.fit"]


def test_gold_labels_are_asked_of_the_training_rows(sections: dict[str, Any]) -> None:
    unlabelled = sections["data"].train.model_copy(update={"label": None})
    data = sections["data"].model_copy(update={"train": unlabelled})
    assert sorted(_keys(sections, data=data)) == ASKED
    text = registry.load("edgedistill.corpus.sources", "text").Options(source="text", file="a.txt")
    data = sections["data"].model_copy(update={"train": text})
    assert sorted(_keys(sections, data=data)) == ASKED
    measured = data.model_copy(update={"validation": sections["data"].train, "test": unlabelled})
    assert sorted(_keys(sections, data=measured)) == ["data.test", *ASKED[1:]]


def test_some_format_stores_every_scheme(sections: dict[str, Any]) -> None:
    found = problems_between({**sections, "quantize": (*sections["quantize"], Blocks())})
    assert [key for key, _ in found] == ["quantize[1].method"]
    assert "ggml_blocks" in found[0][1]
    assert "'onnx' stores:" in found[0][1]


class Talking(TaskOptions):
    kind: str = "text_generation"


def test_a_method_serves_the_task(sections: dict[str, Any]) -> None:
    methods = {name: registry.load("edgedistill.quantize.methods", name) for name in ("dynamic_int8", "q4_k_m")}
    quantize = tuple(module.Options(method=name) for name, module in methods.items())
    for task, place, wrong, others in (
        (sections["task"], 1, "q4_k_m", "dynamic_int8, dynamic_uint8, float16, int4_groupwise, mixed, static_int8"),
        (Talking(), 0, "dynamic_int8", OF_DECODERS),
    ):
        said = f"'{wrong}' does not serve '{task.kind}'; choose one of: {others}"
        assert problems_between({"quantize": quantize, "task": task}) == [(f"quantize[{place}].method", said)]


def test_a_student_does_the_task(sections: dict[str, Any]) -> None:
    assert _keys(sections, student=Ranker()) == ["student.kind"]


SEARCH, WEIGHED = {"search": SearchOptions()}, {"search": SearchOptions(soft_weights=(0.5,))}
AUGMENT = {"augment": AugmentOptions()}


def test_a_search_has_a_temperature_and_weights_to_change(sections: dict[str, Any]) -> None:
    soft, gold = sections["distill"].losses

    def found(losses: tuple[Any, ...], more: dict[str, Any]) -> list[str]:
        return _keys(sections, distill=sections["distill"].model_copy(update={"losses": losses, **more}))

    assert found((soft, gold), WEIGHED) == found((soft,), SEARCH) == found((gold,), {}) == []
    assert found((gold,), SEARCH) == found((gold,), WEIGHED) == ["distill.search"]
    assert found((soft,), WEIGHED) == ["distill.search.soft_weights"]


def test_augmented_texts_are_made_from_a_token_table_and_labelled_by_the_teacher(sections: dict[str, Any]) -> None:
    _, gold = sections["distill"].losses
    augmented = sections["distill"].model_copy(update=AUGMENT)
    assert _keys(sections, distill=augmented) == []
    mute = Mute()
    assert "distill.augment" in _keys(sections, distill=augmented, teacher=mute)
    assert "distill.augment" not in _keys(sections, teacher=mute)
    unread = augmented.model_copy(update={"losses": (gold,)})
    assert _keys(sections, distill=unread) == ["distill.augment"]


@pytest.mark.parametrize(("section", "key"), [("quantize", "quantize[1].method"), ("export", "export[1].format")])
def test_nothing_is_named_twice(sections: dict[str, Any], section: str, key: str) -> None:
    assert _keys(sections, **{section: sections[section] * 2}) == [key]


def test_no_loss_is_named_twice(sections: dict[str, Any]) -> None:
    distill = sections["distill"].model_copy(update={"losses": sections["distill"].losses * 2})
    assert _keys(sections, distill=distill) == ["distill.losses[2].loss", "distill.losses[3].loss"]


def test_something_is_exported(sections: dict[str, Any]) -> None:
    assert _keys(sections, export=()) == ["export"]


def test_the_target_is_a_file_and_runs_the_format(sections: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = sections["benchmark"].model_copy(update={"target": "toaster"})
    assert _keys(sections, benchmark=nowhere) == ["benchmark.target"]
    load = registry.load

    def load_other(package: str, name: str) -> ModuleType:
        module = load(package, name)
        if package == agreement.FORMATS:
            module = ModuleType(name)
            module.RUNTIME = "abacus"  # type: ignore[attr-defined]
        return module

    monkeypatch.setattr(registry, "load", load_other)
    found = problems_between(sections)
    assert [key for key, _ in found] == ["export[0].format"]
    assert "'abacus'" in found[0][1]


def test_a_recipe_made_in_code_is_held_to_the_same(sections: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"export: names no format"):
        Recipe.model_validate({**sections, "export": ()})


def test_every_format_says_its_runtime() -> None:
    for name in registry.names(agreement.FORMATS):
        assert registry.load(agreement.FORMATS, name).RUNTIME in registry.names("edgedistill.runtimes")
    assert issubclass(registry.load(agreement.FORMATS, "onnx").Options, FormatOptions)


VECTORS = """\
name: found
licence: MIT
task: {kind: sentence_embedding}
teacher: {kind: transformers, licence: MIT, model: {path: teacher}}
data:
  train: {source: text, file: train.txt}
  test: {source: retrieval, queries: queries.jsonl, documents: documents.jsonl}
student: {kind: layers, layers: 2}
"""


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    recipe = Recipe.model_validate(yaml_text.read(VECTORS).value)
    return {name: getattr(recipe, name) for name in Recipe.model_fields}


def test_sentence_vectors_need_texts_alone(vectors: dict[str, Any]) -> None:
    assert problems_between(vectors) == []
    assert [loss.loss for loss in vectors["distill"].losses] == ["cosine"]


def test_a_loss_compares_what_the_task_gives(vectors: dict[str, Any], sections: dict[str, Any]) -> None:
    (key, text), *others = problems_between(
        {**vectors, "distill": sections["distill"].model_copy(update={"search": None})}
    )
    assert not [said for _, said in others if "needs gold labels" in said], "labels would not make it fit"
    assert key == "distill.losses[0].loss"
    assert text == "'forward_kl' does not compare what 'sentence_embedding' gives; choose one of: cosine, l2"
    assert "distill.losses[0].loss" in _keys(sections, distill=vectors["distill"])


def test_a_search_is_measured_on_and_not_learned_from(vectors: dict[str, Any], sections: dict[str, Any]) -> None:
    search = vectors["data"].test
    for role in ("train", "unlabelled", "validation", "calibration"):
        wrong = vectors["data"].model_copy(update={role: search})
        assert _keys(vectors, data=wrong) == [f"data.{role}.source"]
    assert _keys(vectors, data=vectors["data"].model_copy(update={"challenge": {"more": search}})) == []
    labelled = sections["data"].model_copy(update={"test": search, "challenge": {"more": search}})
    assert {"data.test.source", "data.challenge.more.source"} <= set(_keys(sections, data=labelled))


def test_a_head_for_labels_is_not_fitted_where_there_are_none(
    vectors: dict[str, Any], sections: dict[str, Any]
) -> None:
    assert _keys(vectors, teacher=sections["teacher"]) == ["teacher.fit"]
