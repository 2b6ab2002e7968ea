"""What a recipe of a language model needs is told before anything runs."""

import re
from pathlib import Path

import pytest
from tiny_decoders import documents, write_decoder, write_gguf

from edgedistill import pipeline, surroundings
from edgedistill.errors import RecipeError
from edgedistill.models import gguf_checkpoint
from edgedistill.recipe_file import load

RECIPE = """\
name: speech
licence: MIT
task: {kind: text_generation, max_length: 64}
teacher: {kind: transformers, licence: MIT, model: {path: teacher}}
data: {train: {source: text, file: train.txt}}
student: {kind: layers, layers: 1}
benchmark: {prompt_tokens: 32}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_decoder(tmp_path / "teacher")
    (tmp_path / "train.txt").write_text("\n".join(documents(20)), encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "recipe.yaml"


def problems(file: Path, text: str) -> list[str]:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        surroundings.load(file)
    return [line.partition(": ")[2] for line in str(caught.value).splitlines()]


def test_a_missing_extra_is_told_before_anything_runs(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "find_spec", lambda name: None if name == "llama_cpp" else object())
    (told,) = problems(recipe, RECIPE)
    assert told.endswith("'gguf' needs llama_cpp; run: pip install 'edgedistill[gguf]'")


def test_the_shortest_recipe_takes_what_suits_language_models(recipe: Path) -> None:
    options = load(recipe)
    assert [loss.loss for loss in options.distill.losses] == ["forward_kl"]
    assert [method.method for method in options.quantize] == ["q4_k_m"]
    assert [layout.format for layout in options.export] == ["gguf"]


DISAGREE = (
    ("student: {kind: layers, layers: 1}", "student: {kind: layers, layers: 1, embedding_rank: 8}", "is not there for"),
    ("data: {", "distill: {losses: [{loss: reverse_kl}]}\ndata: {", "compares every token of the vocabulary"),
    ("data: {", "distill: {losses: [{loss: forward_kl, temperature: 2}]}\ndata: {", "softens every token"),
    ("data: {", "quantize: [{method: dynamic_int8}]\ndata: {", "does not serve 'text_generation'"),
    ("data: {", "export: [{format: onnx}]\ndata: {", "does not lay out models of 'text_generation'"),
    ("max_length: 64", "max_length: 64, conversations: true", "choose conversations"),
    ("kind: layers, layers: 1", "kind: static", "cannot do 'text_generation'"),
)


@pytest.mark.parametrize(("old", "new", "said"), DISAGREE)
def test_what_does_not_go_together_is_told_with_its_cure(recipe: Path, old: str, new: str, said: str) -> None:
    assert old in RECIPE
    assert any(said in line for line in problems(recipe, RECIPE.replace(old, new)))


def test_a_loss_of_another_task_is_not_cured_by_another_cache(recipe: Path) -> None:
    told = problems(recipe, RECIPE.replace("data: {", "distill: {losses: [{loss: cosine}]}\ndata: {"))
    assert [line for line in told if "distill.losses" in line and "does not compare what" not in line] == []


PRUNED = "student: {kind: pruned, layers: 9, hidden_size: 128, num_attention_heads: 3, intermediate_size: 97}"


def test_all_that_keeps_a_student_from_being_pruned_is_told_at_once(recipe: Path) -> None:
    told = problems(recipe, RECIPE.replace("student: {kind: layers, layers: 1}", PRUNED))
    for said in (
        "student.layers: 9 is more than the teacher's 2 layers",
        "student.hidden_size: 128 is more than the teacher's 64; write 64 or less",
        "student.intermediate_size: 97 is more than the teacher's 96; write 96 or less",
        "student.num_attention_heads: 3 neither divide",
    ):
        assert any(said in line for line in told), said
    fitting = "student: {kind: pruned, layers: 1, hidden_size: 32, num_attention_heads: 2, intermediate_size: 64}"
    recipe.write_text(RECIPE.replace("student: {kind: layers, layers: 1}", fitting), encoding="utf-8")
    assert not [line for line in found(recipe) if ": student" in line]


def test_sizes_that_a_file_cannot_say_are_told_before_the_training(recipe: Path) -> None:
    write_decoder(recipe.parent / "teacher", "qwen2")
    text = RECIPE.replace("kind: layers, layers: 1", "kind: pruned, hidden_size: 32")
    (told,) = [line for line in problems(recipe, text) if "cannot hold" in line]
    assert (
        "export[0].format: 'gguf' cannot hold the student: head_dim 16 times 4 heads is not 32; give it other sizes"
        in told
    )
    recipe.write_text(text.replace("hidden_size: 32", "hidden_size: 32, num_attention_heads: 2"), encoding="utf-8")
    assert not [line for line in found(recipe) if "cannot hold" in line]


def test_a_checkpoint_of_its_own_is_held_against_the_recipe(recipe: Path) -> None:
    write_decoder(recipe.parent / "small", layers=1, max_position_embeddings=32)
    own = "kind: pretrained, licence: MIT, model: {path: small}"
    told = problems(recipe, RECIPE.replace("kind: layers, layers: 1", own))
    assert any(
        "task.max_length: 64 tokens are more than the 32 that the student has positions for" in one for one in told
    )
    told = problems(recipe, RECIPE.replace("kind: layers, layers: 1", own.replace("small", "nowhere")))
    assert any("student.model.path" in one and "is not a directory" in one for one in told)


def test_what_is_timed_must_fit_into_the_models(recipe: Path) -> None:
    timed = RECIPE.replace("prompt_tokens: 32", "prompt_tokens: 100, decode_tokens: 29")
    (told,) = [line for line in problems(recipe, timed) if "prompt_tokens" in line]
    assert told.startswith("benchmark.prompt_tokens: 100 and decode_tokens 29 are more than the 128 that the teacher")
    recipe.write_text(timed.replace("29", "28"), encoding="utf-8")
    assert not [line for line in found(recipe) if "prompt_tokens" in line]


GGUF = RECIPE.replace(
    "kind: transformers, licence: MIT, model: {path: teacher}",
    "kind: gguf, licence: MIT, model: {path: ., file: teacher.gguf}",
)
TASK = "kind: text_generation, max_length: 64"
TALKING = ("max_length: 64", "max_length: 64, conversations: true")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("file: teacher.gguf", "file: nothing.gguf", r"teacher.model.file: .*has no file nothing.gguf; its GGUF files"),
        (
            "file: teacher.gguf",
            "file: false.gguf",
            r"teacher.model.file: .*is no sound GGUF file: it starts with b'abcd'",
        ),
        (", file: teacher.gguf", "", r"teacher.model: names no file; add the .gguf file in that place"),
        ("gguf}}", "gguf}, fit: {epochs: 1}}", r"teacher.fit: .*are not trained; leave fit out, or choose kind: trans"),
        ("gguf}}", "gguf}, threads: 0}", r"teacher.threads: 0 is too small"),
        ("gguf}}", "gguf}, threads: 5000}", r"teacher.threads: 5000 is too large"),
        (
            "max_length: 64",
            "max_length: 999",
            r"task.max_length: 999 tokens are more than the 128 that the teacher has",
        ),
        ("file: teacher.gguf", "file: mute.gguf", r"task.conversations: needs a chat template, and the teacher's file"),
        (TASK, "kind: sentence_embedding", r"teacher.kind: 'gguf' cannot teach 'sentence_embedding'; it teaches: text"),
        (
            "layers: 1}",
            "layers: 1}\ndistill: {augment: {}}",
            r"distill.augment: takes near words from .*'gguf' has none",
        ),
    ],
)
def test_what_a_gguf_teacher_cannot_do_is_told_before_anything_runs(
    recipe: Path, old: str, new: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(recipe.parent / "teacher", recipe.parent / "teacher.gguf")
    (recipe.parent / "false.gguf").write_bytes(b"abcd" * 99)
    monkeypatch.setattr("gguf.GGUFWriter.add_chat_template", lambda *_: None)
    write_gguf(recipe.parent / "teacher", recipe.parent / "mute.gguf")
    recipe.write_text(GGUF, encoding="utf-8")
    assert found(recipe) == []
    assert old in GGUF
    told = problems(recipe, GGUF.replace(old, new).replace(*(TALKING if "mute" in new else ("", ""))))
    assert any(re.match(said, line) for line in told), said


def test_a_gguf_teacher_needs_its_extra(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(recipe.parent / "teacher", recipe.parent / "teacher.gguf")
    monkeypatch.setattr(surroundings, "find_spec", lambda name: None if name == "llama_cpp" else object())
    told = problems(recipe, GGUF.replace("benchmark", "quantize: []\nexport: [{format: onnx_genai}]\nbenchmark"))
    assert told == ["teacher.kind: 'gguf' needs llama_cpp; run: pip install 'edgedistill[gguf]'"]


def test_a_plan_counts_a_gguf_teacher_and_writes_none_of_its_weights(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(recipe.parent / "teacher", recipe.parent / "teacher.gguf")
    monkeypatch.setattr(gguf_checkpoint, "_dequantized", lambda *_: pytest.fail("weights were read"))
    counted = {}
    for name, text in (("floats", RECIPE), ("codes", GGUF)):
        recipe.write_text(text, encoding="utf-8")
        counted[name] = pipeline.anatomy(load(recipe), recipe.parent)
        plan = pipeline.plan(load(recipe), recipe.parent, recipe.parent / "runs")
    assert counted["codes"] == counted["floats"]
    assert [stage.stage for stage in plan][:4] == ["corpus", "teacher", "start", "signals"]


def found(file: Path) -> list[str]:
    """Return what is said of a recipe, which may be nothing."""
    try:
        surroundings.load(file)
    except RecipeError as error:
        return str(error).splitlines()
    return []
