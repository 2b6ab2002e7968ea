"""Prompts without answers: the teacher answers each, and only its student learns from what it said."""

import json
import shutil
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pipeline import INFRASTRUCTURE, imported
from tiny_decoders import documents, write_decoder, write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from edgedistill import pipeline
from edgedistill.corpus.read import prompts_of, read, row_hashes_of
from edgedistill.decoder_values import AnsweredCorpus, DecoderControls, DecoderSignals, DecoderStudent, gold_rows
from edgedistill.distill.decoder import answers as module
from edgedistill.distill.decoder.answers import Answering, answer, with_answer
from edgedistill.distill.decoder.controls import _as_long
from edgedistill.errors import DataError, RecipeError
from edgedistill.planning import PlannedStage
from edgedistill.recipe_file import load
from edgedistill.recipe_sections import DistillOptions
from edgedistill.run import Run
from edgedistill.tasks.text_generation import AnswerOptions, Options
from edgedistill.training.language import rows_of
from edgedistill.values import Corpus, Teacher

RECIPE = """\
name: tiny-asked
licence: MIT
task: {kind: text_generation, conversations: true, max_length: 64, judged_positions: 200}
teacher:
  kind: transformers
  licence: Apache-2.0
  model: {path: teacher}
  fit: {method: full, epochs: 6, batch_size: 8, learning_rate: 3.0e-3}
data:
  train: {source: conversations, file: train.jsonl}
  unlabelled: {source: conversations, file: asked.jsonl, answer: null}
  test: {source: conversations, file: test.jsonl}
student: {kind: layers, layers: 1}
distill: {epochs: 1, batch_size: 16, learning_rate: 3.0e-3}
"""
TASK = Options(kind="text_generation", conversations=True, max_length=64)


def pairs(texts: list[str], *, answered: bool = True) -> list[dict[str, str]]:
    """Return rows whose answer is the prompt's second word and its length."""
    return [{"prompt": one} | ({"answer": f"{one.split()[1]} {len(one)}"} if answered else {}) for one in texts]


def write(file: Path, rows: list[Any]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    write_decoder(folder / "teacher")
    texts = list(dict.fromkeys(documents(420)))
    write(folder / "train.jsonl", pairs(texts[:200]))
    write(folder / "test.jsonl", pairs(texts[200:240]))
    write(folder / "asked.jsonl", pairs([*texts[225:290], *texts[:5]], answered=False))
    (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    pipeline.build(load(folder / "tiny.yaml"), folder, folder / "runs", until="distill")
    return folder


def value(folder: Path, name: str, kind: type) -> Any:
    recipe, run = load(folder / "tiny.yaml"), Run(folder / "runs" / "tiny-asked")
    return kind.load(run.folder_of(name, pipeline.stages(recipe, folder, run)[name].needs))


@pytest.fixture(scope="module")
def corpus(built: Path) -> Corpus:
    return value(built, "corpus", Corpus)


@pytest.fixture(scope="module")
def answered(built: Path) -> AnsweredCorpus:
    return value(built, "answers", AnsweredCorpus)


@pytest.fixture(scope="module")
def teacher(built: Path) -> Teacher:
    return value(built, "teacher", Teacher)


def asked_in_order(corpus: Corpus, size: int = AnswerOptions().batch_size) -> list[tuple[str, str]]:
    """Return all prompts as the stage asks them: those of like length together."""
    prompts = list(prompts_of(corpus))
    assert len(prompts) < size * module.GROUPS_AT_ONCE
    return sorted(prompts, key=lambda prompt: len(prompt[0]))


def lines_of(answered: AnsweredCorpus) -> list[dict[str, Any]]:
    file = answered.path(answered.answers.file)
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def answer_again(folder: Path, teacher: Teacher, corpus: Corpus, **options: Any) -> AnsweredCorpus:
    """Run the stage, as a build does, in a folder that may hold what a killed one left."""
    folder.mkdir(exist_ok=True)
    made = answer(AnswerOptions(**options), task=TASK, teacher=teacher, corpus=corpus, folder=folder)
    made._folder = folder
    return made


def test_answers_are_what_transformers_generates(teacher: Teacher, corpus: Corpus, answered: AnsweredCorpus) -> None:
    tokenizer = AutoTokenizer.from_pretrained(teacher.path(teacher.checkpoint))
    model = AutoModelForCausalLM.from_pretrained(teacher.path(teacher.checkpoint)).eval()
    found = lines_of(answered)
    for (prompt, row_hash), line in zip(asked_in_order(corpus), found, strict=True):
        ids = tokenizer.apply_chat_template(
            json.loads(prompt), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        room = TASK.max_length - ids.shape[1]  # the end included
        assert line["prompt"] == row_hash
        if room < 2:
            assert line["outcome"] == "too long"
            continue
        with torch.no_grad():
            said = model.generate(ids, do_sample=False, max_new_tokens=room)[0, ids.shape[1] :].tolist()
        assert (said[-1] == tokenizer.eos_token_id) == (line["outcome"] != "cut off")
        if line["outcome"] == "answered":
            assert line["answer"] == tokenizer.decode(said[:-1])
            assert line["tokens"] == len(said) - 1
    outcomes = [line["outcome"] for line in found]
    assert outcomes.count("answered") > 10
    assert {"too long"} <= set(outcomes)
    assert len({line["answer"] for line in found}) > 5, "a teacher that always says the same would prove little"


def test_a_row_of_the_head_that_stands_for_no_token_is_never_said(teacher: Teacher) -> None:
    asked = Answering(teacher, AnswerOptions(max_tokens=4), TASK.max_length)
    one = asked._asked('[{"role": "user", "content": "Hi"}]', "0" * 16)
    likeliest = np.arange(asked._known + 1)
    assert one.choose(likeliest[:-1]) == one.choose(likeliest) == asked._known - 1


def test_what_became_of_every_prompt_is_counted(corpus: Corpus, answered: AnsweredCorpus) -> None:
    told = answered.answers
    outcomes = [line["outcome"] for line in lines_of(answered)]
    assert told.prompts == len(outcomes) == corpus.prompts.rows
    assert told.rows == outcomes.count("answered")
    assert (told.too_long, told.cut_off) == (outcomes.count("too long"), outcomes.count("cut off"))
    assert told.tokens == sum(line["tokens"] for line in lines_of(answered) if line["outcome"] == "answered")


def test_the_answered_conversations_stand_behind_train_and_nothing_else_changes(
    corpus: Corpus, answered: AnsweredCorpus
) -> None:
    before, after = read(corpus, "train"), read(answered, "train")
    said = {line["prompt"]: line["answer"] for line in lines_of(answered) if line["outcome"] == "answered"}
    wanted = [with_answer(json.loads(text), said[key]) for text, key in asked_in_order(corpus) if key in said]
    assert after.texts == before.texts + wanted
    assert gold_rows(answered) == len(before.texts) == gold_rows(corpus)
    assert answered.splits["train"].rows == len(after.texts)
    for name in corpus.splits.keys() - {"train"}:
        assert answered.splits[name] == corpus.splits[name]
        assert read(answered, name).texts == read(corpus, name).texts


def test_the_student_reads_them_and_the_twin_does_not(built: Path, answered: AnsweredCorpus) -> None:
    signals, student = value(built, "signals", DecoderSignals), value(built, "student", DecoderStudent)
    controls = value(built, "controls", DecoderControls)
    said = set(row_hashes_of(answered, "train")[gold_rows(answered) :])
    read_by_student = np.load(signals.path(signals.splits["train"].row_hashes))
    rows = rows_of(signals, "train")
    gold = rows.of_first_texts(gold_rows(answered))
    assert said <= set(read_by_student)
    assert len(rows.tokens) == student.training.rows
    assert len(gold.tokens) == controls.no_teacher_training.rows == len(rows.tokens) - len(said)
    assert not said & set(read_by_student[: len(gold.tokens)])
    taught, alone = student.training, controls.no_teacher_training
    assert taught.steps <= alone.steps < taught.steps + 2 * alone.steps / len(alone.curve), "it is trained as long"
    for row in (0, len(gold.tokens) - 1):
        assert gold.counted.row(row).ids == rows.counted.row(row).ids
        assert gold.counted.row(row).positions == rows.counted.row(row).positions
    positions = np.load(signals.path(signals.logits["train"].offsets))
    assert len(positions) == rows.counted.positions + 1, "what the teacher thinks of its own answers is kept, too"


class Killed(BaseException):
    """What ends a process in the middle."""


@dataclass
class Watched:
    """Which prompts a process asks, a group at a time, and after how many groups it dies."""

    dies_after: int | None = None
    asked: list[list[str]] = field(default_factory=list)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Return what sees every prompt that is asked from now on."""
    seen, original = Watched(), Answering.answer

    def noting(self: Answering, prompts: Any) -> Any:
        if len(seen.asked) == seen.dies_after:
            raise Killed
        seen.asked.append([row_hash for _, row_hash in prompts])
        return original(self, prompts)

    monkeypatch.setattr(Answering, "answer", noting)
    return seen


def killed_and_resumed(folder: Path, teacher: Teacher, corpus: Corpus, watched: Watched) -> AnsweredCorpus:
    """Kill the stage after seven groups and in the middle of the eighth, and let it go on."""
    watched.dies_after, watched.asked = 7, []
    with pytest.raises(Killed):
        answer_again(folder, teacher, corpus, **DRAWN)
    whole = (folder.parent / "whole" / "answers.jsonl").read_bytes().splitlines(keepends=True)
    with (folder / "answers.jsonl").open("ab") as out:
        out.write(whole[28] + whole[29][:-5])
    watched.dies_after = None
    return answer_again(folder, teacher, corpus, **DRAWN)


DRAWN: dict[str, Any] = {"temperature": 1.0, "batch_size": 4}


def test_a_killed_stage_goes_on_and_ends_with_the_same_bytes(
    teacher: Teacher, corpus: Corpus, watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = answer_again(tmp_path / "whole", teacher, corpus, **DRAWN)
    every = watched.asked
    assert sum(map(len, every)) == corpus.prompts.rows
    assert {len(group) for group in every[:-1]} == {4}
    resumed = killed_and_resumed(tmp_path / "resumed", teacher, corpus, watched)
    assert watched.asked == every, "no answer is asked for twice"
    for file in ("answers.jsonl", "train.parquet"):
        assert (tmp_path / "resumed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert resumed.model_dump() == whole.model_dump()
    answer_again(tmp_path / "resumed", teacher, corpus, **DRAWN)
    assert watched.asked == every, "what was killed at its very end asks for nothing"
    monkeypatch.setattr(
        module, "_whole_answers", lambda file, *_: file.exists() and len(file.read_bytes().splitlines()) - 2
    )
    with pytest.raises(json.JSONDecodeError):  # half a line that stays in the middle is seen
        killed_and_resumed(tmp_path / "broken", teacher, corpus, watched)


def test_groups_hold_every_prompt_once_and_those_of_like_length_together(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUPS_AT_ONCE", 3)
    groups = list(module._groups(corpus, 4))
    assert sorted(prompt for group in groups for prompt in group) == sorted(prompts_of(corpus))
    assert [len(group) for group in groups[:3]] == [4, 4, 4]
    for first, second in pairwise(groups[:3]):
        assert max(len(text) for text, _ in first) <= min(len(text) for text, _ in second)


@pytest.mark.parametrize(
    ("rows", "fewer", "epochs", "patience"), [(100, 100, 3, 2), (149, 100, 5, 3), (300, 100, 9, 6)]
)
def test_fewer_rows_are_read_more_often_and_given_up_as_late(
    rows: int, fewer: int, epochs: int, patience: int
) -> None:  # fmt: skip
    losses = ({"loss": "cross_entropy"},)
    asked = DistillOptions.model_validate({"losses": losses, "epochs": 3, "patience": 2})
    found = _as_long(asked, rows, fewer)
    assert (found.epochs, found.patience) == (epochs, patience)
    assert _as_long(asked.model_copy(update={"patience": None}), rows, fewer).patience is None


def test_draws_do_not_depend_on_order_or_neighbours(teacher: Teacher, corpus: Corpus) -> None:
    prompts = list(prompts_of(corpus))[:12]

    def said(order: list[tuple[str, str]], **options: Any) -> dict[str, Any]:
        answers = Answering(teacher, AnswerOptions(**options), TASK.max_length).answer(order)
        return {row_hash: one for (_, row_hash), one in zip(order, answers, strict=True)}

    drawn = said(prompts, temperature=1.5)
    assert said(prompts[::-1], temperature=1.5) == drawn
    alone = [said([prompt], temperature=1.5) for prompt in prompts]
    assert {key: one for each in alone for key, one in each.items()} == drawn
    assert said(prompts, temperature=1.5, seed=1) != drawn != said(prompts)


def test_a_gguf_file_answers_in_llama_cpp(teacher: Teacher, corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="it runs GGUF files")
    shutil.copytree(teacher.folder, tmp_path / "teacher")
    write_gguf(teacher.path(teacher.checkpoint), tmp_path / "teacher" / "it.gguf")
    said = json.loads((tmp_path / "teacher" / "result.json").read_text(encoding="utf-8"))
    (tmp_path / "teacher" / "result.json").write_text(json.dumps(said | {"gguf": "it.gguf"}), encoding="utf-8")
    stored = Teacher.load(tmp_path / "teacher")
    both = [Answering(one, AnswerOptions(), TASK.max_length) for one in (teacher, stored)]
    in_pytorch, in_llama_cpp = (one.answer(list(prompts_of(corpus))[:12]) for one in both)
    assert sum(one == other for one, other in zip(in_pytorch, in_llama_cpp, strict=True)) >= 10, (
        "the same weights, keys kept as float16"
    )
    made = answer(AnswerOptions(), task=TASK, teacher=stored, corpus=corpus, folder=tmp_path)
    assert made.answers.batch_size == 1, "one after another, and written down as they come"


def test_what_is_no_whole_answer_is_left_out(teacher: Teacher, corpus: Corpus, tmp_path: Path) -> None:
    asked = Answering(teacher, AnswerOptions(), TASK.max_length)
    messages = [{"role": "user", "content": "Hi"}]
    assert asked._outcome(messages, [5], "a", True) == "answered"
    assert asked._outcome(messages, [5], "a", False) == "cut off"
    assert asked._outcome(messages, [5], " \n", True) == "empty"
    assert asked._outcome(messages, [], "", True) == "empty"
    assert asked._outcome(messages, [5, 0], "a<|endoftext|>", True) == "unreadable"
    assert asked._outcome(messages, [5], "a\N{REPLACEMENT CHARACTER}", True) == "unreadable"
    assert asked._outcome(messages, [5], "a " * 60, True) == "cut off", "it is read as more tokens than were said"
    with pytest.raises(DataError, match=r"no whole answer: .* leave no room for one, \d+ answers have no end"):
        answer_again(tmp_path, teacher, corpus, max_tokens=1)


def stages_of(folder: Path, old: str = "", new: str = "") -> dict[str, str]:
    text = RECIPE.replace(old, new)
    assert not old or text != RECIPE
    file = folder / "other.yaml"
    file.write_text(text, encoding="utf-8")
    run = Run(folder / "runs" / "tiny-asked")
    return {name: one.fingerprint for name, one in pipeline.stages(load(file), folder, run).items()}


def test_the_stage_is_there_only_for_prompts_and_depends_on_how_they_are_answered(built: Path) -> None:
    before = stages_of(built)
    assert list(before)[:4] == ["corpus", "teacher", "answers", "signals"]
    options = ("max_tokens: 9", "temperature: 0.5", "seed: 1", "batch_size: 7")
    for option in options:
        after = stages_of(built, "judged_positions: 200", f"judged_positions: 200, answers: {{{option}}}")
        assert [name for name in before if before[name] == after[name]] == ["corpus", "teacher"]
    shorter = stages_of(built, "max_length: 64", "max_length: 63")
    assert before["answers"] != shorter["answers"]
    unasked = ("  unlabelled: {source: conversations, file: asked.jsonl, answer: null}\n", "")
    assert "answers" not in stages_of(built, *unasked)
    idle = RECIPE.replace(*unasked).replace("judged_positions: 200", "judged_positions: 200, answers: {seed: 1}")
    (built / "idle.yaml").write_text(idle, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"task\.answers: says how prompts are answered, and there are none"):
        load(built / "idle.yaml")
    planned = planned_of(built, RECIPE)["answers"]
    alone = planned_of(
        built, RECIPE.replace("judged_positions: 200", "judged_positions: 200, answers: {batch_size: 1}")
    )
    assert 0 < planned.seconds < alone["answers"].seconds
    assert planned.bytes > 0


def planned_of(folder: Path, text: str) -> dict[str, PlannedStage]:
    (folder / "planned.yaml").write_text(text, encoding="utf-8")
    return {one.stage: one for one in pipeline.plan(load(folder / "planned.yaml"), folder, folder / "elsewhere")}


def test_its_code_is_named(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def left_out(names: str) -> set[str]:
        rooms = set(INFRASTRUCTURE) | set(names.split())
        used = imported(["distill/decoder/answers.py"])
        return {file for file in used if not any(file == room or file.startswith(f"{room}/") for room in rooms)}

    monkeypatch.setattr("edgedistill.stages.code_of", lambda *rooms: " ".join(rooms))
    named = pipeline.stages(load(built / "tiny.yaml"), built, Run(Path("no-such-run")))
    earlier = f"{named['corpus'].needs['code']} {named['teacher'].needs['code']}"
    assert left_out(f"{earlier} {named['answers'].needs['code']}") == set()
    assert left_out(earlier), "a file left out is seen"


@pytest.mark.parametrize("role", ["train", "test", "validation", "calibration", "challenge.other"])
def test_only_unlabelled_prompts_go_without_answers(role: str, tmp_path: Path) -> None:
    source = "{source: conversations, file: asked.jsonl, answer: null}"
    text = RECIPE
    if role == "train":
        text = text.replace("{source: conversations, file: train.jsonl}", source)
    else:
        place = f"challenge: {{other: {source}}}" if "." in role else f"{role}: {source}"
        text = text.replace("  test: {source: conversations, file: test.jsonl}\n", "")
        text = text.replace("student:", f"  {place}\nstudent:")
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=rf"data\.{role}\.answer: null leaves .* as data\.unlabelled"):
        load(tmp_path / "bad.yaml")
