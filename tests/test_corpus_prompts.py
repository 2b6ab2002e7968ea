"""Prompts without answers: none that another split asks is among them, however long its answer is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedistill.corpus import stage
from edgedistill.corpus.prompts import summed
from edgedistill.corpus.read import prompts_of, texts_of
from edgedistill.corpus.stage import collect
from edgedistill.errors import DataError
from edgedistill.recipe_sections import DataOptions
from edgedistill.values import Corpus, Overlap

WORDS = ("river", "moon", "house", "letter", "winter", "garden", "king", "bird", "stone", "window", "ship", "bread")


def question(number: int) -> str:
    """Return a text that is like no other one."""
    random = np.random.default_rng(number)
    return f"What about {' '.join(random.choice(WORDS, 7))}, number {number * 7919}?"


def row(number: int) -> dict[str, Any]:
    return {"prompt": question(number), "answer": " ".join(question(1000 + 50 * number + i) for i in range(4))}


def collected(folder: Path, asked: list[dict[str, Any]]) -> Corpus:
    talk = [{"role": "user", "content": question(300)}, {"role": "assistant", "content": "Yes, of course it is."}]
    talk += [{"role": "user", "content": question(301)}, {"role": "assistant", "content": question(9000)}]
    files = {
        "train": [row(number) for number in range(60)],
        "test": [*(row(number) for number in range(100, 120)), {"messages": talk}],
        "validation": [row(number) for number in range(200, 210)],
        "unlabelled": asked,
    }
    sources = {}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
        sources[name] = {"source": "conversations", "file": f"{name}.jsonl"}
    sources["unlabelled"]["answer"] = None
    out = folder / "corpus"
    out.mkdir(exist_ok=True)
    corpus = collect(DataOptions.model_validate(sources), (), folder, out)
    corpus._folder = out
    return corpus


NEW = [{"prompt": question(number)} for number in range(400, 405)]
ASKED = [
    *NEW,
    {"prompt": question(401)},  # twice
    {"prompt": question(3)},  # of train
    {"prompt": question(100)},  # of test
    {"prompt": f"  {question(101).upper()} "},  # the same text, as texts are compared
    {"prompt": question(102).replace("What about", "What about the")},  # nearly the same
    {"prompt": question(200)},  # of validation
    {"prompt": question(300)},  # a first question of test
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question(103)}]},
]


def kept(corpus: Corpus) -> set[str]:
    return {json.loads(text)[-1]["content"] for text, _ in prompts_of(corpus)}


def test_no_prompt_of_another_split_is_left(tmp_path: Path) -> None:
    corpus = collected(tmp_path, ASKED)
    assert kept(corpus) == {one["prompt"] for one in NEW}
    assert corpus.prompts.rows == len(NEW)
    assert corpus.prompts.exact_duplicates_removed == 1
    taken = {each.kept_in: (each.exact, each.near) for each in corpus.overlaps if each.removed_from == "unlabelled"}
    assert taken == {"test": (4, 1), "validation": (1, 0), "train": (1, 0)}
    assert not any("400" in text and question(400) in text for text in texts_of(corpus, "train")), "they stay apart"


def test_without_that_comparison_held_out_prompts_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "asked_nowhere_else", lambda _, splits, *__: (splits["unlabelled"], ()))
    assert question(100) in kept(collected(tmp_path, ASKED)), "a conversation is not nearly its own prompt"


def test_a_multi_turn_prompt_is_compared_whole(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": question(300)}, {"role": "assistant", "content": "Yes, of course it is."}]
    known, other = ({"messages": [*talk, {"role": "user", "content": question(n)}]} for n in (301, 302))
    assert kept(collected(tmp_path, [known, other])) == {question(302)}


def test_where_no_prompt_is_left_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no prompt of data\.unlabelled is left: 2 there are"):
        collected(tmp_path, [{"prompt": question(100)}, {"prompt": question(5)}])


def test_overlaps_of_two_comparisons_add_up() -> None:
    def overlap(exact: int, near: int) -> Overlap:
        return Overlap(kept_in="test", removed_from="unlabelled", exact=exact, near=near)

    assert summed([overlap(1, 2), overlap(3, 4)]) == (overlap(4, 6),)
