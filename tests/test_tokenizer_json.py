"""A tokenizer with fewer tokens reads every text that needs only kept ones as before, whatever its kind."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_tokenizers import KINDS, texts, write

from edgedistill.errors import ModelError
from edgedistill.export.parity import ODD_TEXTS
from edgedistill.models import tokenizer_json
from edgedistill.models.load import load_tokenizer
from edgedistill.models.vocabulary import chosen
from edgedistill.section import VocabularyOptions

HELD_OUT = texts(200, seed=1)
READ = (*texts()[:150], *HELD_OUT, *ODD_TEXTS)


def ids_of(tokenizer: Any, given: Sequence[str]) -> list[list[int]]:
    return [tokenizer(text)["input_ids"] for text in given]


class Trimmed:
    """A tokenizer of one kind before and after tokens were dropped."""

    def __init__(self, kind: str, folder: Path, **options: Any) -> None:
        self.whole = write(kind, folder / "whole")
        counts = np.bincount(np.concatenate(ids_of(self.whole, texts())).astype(int), minlength=len(self.whole))
        self.counts = counts
        self.kept = chosen(VocabularyOptions(**options), self.whole, {}, counts).tolist()
        self.rewrite(self.kept, folder / "trimmed")

    def rewrite(self, kept: Sequence[int], folder: Path) -> None:
        tokenizer_json.write_trimmed(self.whole, kept, folder)
        self.kept, self.own = list(kept), load_tokenizer(folder)

    def unlike(self) -> tuple[int, list[str]]:
        """Return how many texts need only kept tokens, and those of them that are read otherwise."""
        new = {old: i for i, old in enumerate(self.kept)}
        needed, wrong = 0, []
        for text, before, after in zip(READ, ids_of(self.whole, READ), ids_of(self.own, READ), strict=True):
            if all(i in new for i in before) and self.whole.unk_token_id not in before:
                needed += 1
                wrong += [text] * ([new[i] for i in before] != after)
        return needed, wrong


@pytest.mark.parametrize("options", [{"min_count": 1}, {"min_count": 8}, {"size": 350, "min_count": 0}])
@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_need_only_kept_tokens_are_read_as_before(
    kind: str, options: dict[str, int], tmp_path: Path
) -> None:
    found = Trimmed(kind, tmp_path, **options)
    needed, wrong = found.unlike()
    assert not wrong
    assert needed > 20


@pytest.mark.parametrize("kind", KINDS)
def test_some_tokens_are_dropped_and_their_words_still_read(kind: str, tmp_path: Path) -> None:
    found = Trimmed(kind, tmp_path, min_count=8)
    assert len(found.kept) < len(found.whole)
    before, after = ids_of(found.whole, HELD_OUT), ids_of(found.own, HELD_OUT)
    assert sum(map(len, after)) > sum(map(len, before)) or kind == "words"
    unknown = sum(row.count(found.own.unk_token_id) for row in after)
    assert unknown == 0 or kind == "words", "only a tokenizer of whole words has no pieces for the others"


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_have_new_ids_everywhere_and_nothing_of_the_old_is_left(kind: str, tmp_path: Path) -> None:
    found = Trimmed(kind, tmp_path, min_count=8)
    whole, own = found.whole.get_vocab(), found.own.get_vocab()
    assert own == {token: found.kept.index(i) for token, i in whole.items() if i in found.kept}
    assert {*found.whole.all_special_tokens, "<extra>"} <= own.keys()
    assert found.own.model_max_length == found.whole.model_max_length
    for name in ("pad", "unk", "cls", "sep", "mask"):
        token = getattr(found.own, f"{name}_token")
        assert token == getattr(found.whole, f"{name}_token")
        assert getattr(found.own, f"{name}_token_id") == own[token]
    assert {file.name for file in (tmp_path / "trimmed").iterdir()} <= set(tokenizer_json.TOKENIZER_FILES)
    frame = ids_of(found.own, ["good"])[0]
    words = [token for token in (found.whole.decode([i]) for i in ids_of(found.whole, ["good"])[0]) if token]
    assert [found.own.decode([i]) for i in frame] == words, "what the post-processor adds, too"


@pytest.mark.parametrize("kind", ["bytes", "suffixed", "prefixed", "bpe_with_bytes"])
def test_a_vocabulary_that_is_not_closed_under_merges_is_seen(kind: str, tmp_path: Path) -> None:
    found = Trimmed(kind, tmp_path, min_count=1)
    parts = tokenizer_json.parts(json.loads(found.whole.backend_tokenizer.to_str()))
    between = [
        i for i in found.kept if i in parts and found.counts[i] == 0 and any(i in made for made in parts.values())
    ]
    assert between, "some token is only ever a step on the way to another"
    found.rewrite([i for i in found.kept if i not in between], tmp_path / "broken")
    assert found.unlike()[1]


def test_what_an_unknown_character_is_scored_by_stays(tmp_path: Path) -> None:
    found = Trimmed("unigram", tmp_path, min_count=1)
    written = json.loads(found.whole.backend_tokenizer.to_str())
    scores = [score for _, score in written["model"]["vocab"]]
    assert int(np.argmin(scores)) in tokenizer_json.indispensable(written, [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_shifted_id_is_seen(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = tokenizer_json.trimmed

    def shifted(written: Any, kept: Sequence[int]) -> dict[str, Any]:
        made = sound(written, kept)
        vocab = made["model"]["vocab"]
        if isinstance(vocab, list):
            vocab[-1], vocab[-2] = vocab[-2], vocab[-1]
        else:
            one, other = list(vocab)[-2:]
            vocab[one], vocab[other] = vocab[other], vocab[one]
        return made

    monkeypatch.setattr(tokenizer_json, "trimmed", shifted)
    with pytest.raises(ModelError, match=r"the trimmed tokenizer gives .* id \d+ instead of \d+; leave"):
        Trimmed(kind, tmp_path, min_count=1)


def test_a_sequence_of_post_processors_and_padding_are_renumbered(tmp_path: Path) -> None:
    whole = write("wordpiece", tmp_path)
    written = json.loads(whole.backend_tokenizer.to_str())
    written["post_processor"] = {"type": "Sequence", "processors": [written["post_processor"], {"type": "ByteLevel"}]}
    written["padding"] = {"pad_id": whole.pad_token_id, "pad_token": "[PAD]"}
    kept = [*sorted(tokenizer_json.indispensable(written, [])), whole.convert_tokens_to_ids("good")]
    made = tokenizer_json.trimmed(written, kept)
    template, other = made["post_processor"]["processors"]
    assert other == {"type": "ByteLevel"}
    assert template["special_tokens"]["[SEP]"]["ids"] == [kept.index(whole.sep_token_id)]
    assert made["padding"]["pad_id"] == kept.index(whole.pad_token_id)


def test_another_kind_of_tokenizer_is_refused() -> None:
    with pytest.raises(ModelError, match=r"student\.vocabulary: a tokenizer of kind Runes cannot be trimmed"):
        tokenizer_json.token_ids({"model": {"type": "Runes"}, "added_tokens": []})


def test_what_a_post_processor_adds_is_kept_even_where_it_is_no_added_token(tmp_path: Path) -> None:
    whole = write("wordpiece", tmp_path)
    written = json.loads(whole.backend_tokenizer.to_str())
    good = whole.convert_tokens_to_ids("good")
    assert good not in tokenizer_json.indispensable(written, [])
    written["post_processor"] = {"type": "BertProcessing", "sep": ["good", good], "cls": ["[CLS]", whole.cls_token_id]}
    assert good in tokenizer_json.indispensable(written, [])


def test_what_stands_for_the_unknown_is_kept_even_where_it_is_no_added_token() -> None:
    model = {"type": "Unigram", "vocab": [["good", -1.0], ["<unk>", -2.0], ["bad", -3.0]], "unk_id": 1}
    assert tokenizer_json.indispensable({"model": model, "added_tokens": []}, []) == {1, 2}


def test_a_character_at_the_end_of_a_word_is_kept_as_one_inside_it() -> None:
    vocab = {"a": 0, "a</w>": 1, "ab</w>": 2, "\u00e9": 3, "\u00e9</w>": 4}
    model = {"type": "BPE", "vocab": vocab, "merges": [["a", "b</w>"]], "end_of_word_suffix": "</w>"}
    written = {"model": model, "added_tokens": []}
    assert tokenizer_json.indispensable(written, []) == {0, 1}, "those of ASCII"
    assert tokenizer_json.indispensable(written, ["\u00e9</w>"]) == {0, 1, 3, 4}
