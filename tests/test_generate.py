"""An answer comes in whole characters, says how it ended, and nothing that the cache holds is read twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripted_decoder import END, ForgetfulDecoder, ScriptedDecoder, scripted
from tiny_decoders import documents, write_decoder, write_gguf

from edgedistill.errors import ModelError, RecipeError
from edgedistill.generate import PART_TOKENS, Answer, GenerationOptions, Reader, harmless, prompt_of, room
from edgedistill.language_model import LanguageModel, open_model
from edgedistill.sampling import Sampler, Sampling

RUNTIMES = ("pytorch_decoder", "llama_cpp")
GREEDY = Sampling()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_decoder(folder / "tiny")
    write_gguf(folder / "tiny", folder / "tiny.gguf")
    return folder


@pytest.fixture(scope="module", params=RUNTIMES)
def model(request: pytest.FixtureRequest, checkpoint: Path) -> LanguageModel:
    if request.param == "llama_cpp":
        pytest.importorskip("llama_cpp", reason="its bindings are an extra")
        return open_model(checkpoint / "tiny.gguf", threads=1)
    return open_model(checkpoint / "tiny", threads=1)


def answered(decoder: Any, prompt: list[int], tokens: int = 300, **more: Any) -> tuple[Answer, list[str]]:
    answer = Answer(Reader(decoder), prompt, Sampler(GREEDY), tokens, **more)
    return answer, list(answer)


def greedy_by_transformers(folder: Path, prompt: list[int], tokens: int) -> list[int]:
    from transformers import AutoModelForCausalLM

    whole: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = list(prompt)
    for _ in range(tokens):
        with torch.no_grad():
            ids.append(int(whole(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_greedy_tokens_are_those_of_transformers_without_a_cache(model: LanguageModel, checkpoint: Path) -> None:
    model.decoder.reset()
    prompt = prompt_of(model, documents(1)[0], raw=True)
    expected = greedy_by_transformers(checkpoint / "tiny", prompt, 16)
    answer, pieces = answered(model.decoder, prompt, 16)
    until = next((place for place, token in enumerate(expected) if token in model.decoder.ends), 16)
    assert answer.ids == expected[:until]
    assert "".join(pieces) == answer.text
    assert answer.finish == ("max_tokens" if until == 16 else "end")
    assert answer.read_tokens == len(prompt)


def test_a_seed_decides_an_answer(model: LanguageModel) -> None:
    def drawn(seed: int) -> list[int]:
        model.decoder.reset()
        answer = Answer(Reader(model.decoder), [9, 10], Sampler(Sampling(1.0, seed=seed)), 12)
        return [len(list(answer)), *answer.ids]

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize("cut", [0, 1, 5, 30])
def test_a_prompt_that_begins_as_the_last_one_is_answered_as_if_it_were_the_first(
    model: LanguageModel, cut: int
) -> None:
    ids = model.decoder.encode(documents(1, seed=4)[0] * 3, special=False)[:60]
    other = [*ids[:cut], *ids[40:]]
    model.decoder.reset()
    fresh = Reader(model.decoder).read(other)
    model.decoder.reset()
    reader = Reader(model.decoder)
    reader.read(ids)
    again = reader.read(other)
    assert reader.ids == other
    assert reader.kept == min(cut, len(other) - 1)
    assert fresh is not None
    assert again is not None
    assert np.abs(again - fresh).max() < 1e-3
    assert np.ptp(fresh) > 1


def test_characters_of_several_tokens_come_whole() -> None:
    answer, pieces = answered(ScriptedDecoder(), scripted_prompt("hello"))
    assert (answer.text, answer.finish) == ("Good day! 🎬 नमस्ते", "end")
    assert "🎬" in pieces
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert END not in answer.ids


def scripted_prompt(text: str) -> list[int]:
    return prompt_of(scripted(ScriptedDecoder()), text)


def test_what_is_cut_in_the_middle_of_a_character_says_so() -> None:
    answer, pieces = answered(ScriptedDecoder(), scripted_prompt("hello"), tokens=12)
    assert answer.finish == "max_tokens"
    assert pieces[-1] == "\N{REPLACEMENT CHARACTER}"
    assert answer.text == "Good day! \N{REPLACEMENT CHARACTER}"


def test_every_way_to_end_has_its_word() -> None:
    prompt = scripted_prompt("sing")
    assert answered(ScriptedDecoder(), scripted_prompt("nothing"))[0].finish == "end"
    assert answered(ScriptedDecoder(), prompt, tokens=1)[0].ids == [ord("l")]
    full, _ = answered(ScriptedDecoder(context_tokens=20), prompt)
    assert (full.finish, len(full.prompt) + len(full.ids)) == ("context", 20)
    stopped, pieces = answered(ScriptedDecoder(), prompt, stop=lambda: True)
    assert (stopped.finish, pieces) == ("interrupted", [])
    for answer in (full, stopped):
        assert answer.told()
    asked = iter([False, False, False, True])
    assert "".join(answered(ScriptedDecoder(), prompt, stop=lambda: next(asked))[1]) == "la "


def test_the_tokens_of_an_answer_that_fills_the_context_are_all_told(model: LanguageModel) -> None:
    prompt = [5] * (model.decoder.context_tokens - 2)
    model.decoder.reset()
    answer, _ = answered(model.decoder, prompt)
    assert (len(answer.ids), answer.finish) in [(2, "context"), (1, "end"), (0, "end")]


def test_a_long_prompt_is_read_in_parts_that_can_be_stopped() -> None:
    decoder = ScriptedDecoder()
    looks = iter([False, True])
    reader = Reader(decoder)  # type: ignore[arg-type]
    assert reader.read([65] * 1000, lambda: next(looks)) is None
    assert reader.ids == decoder.cache == [65] * PART_TOKENS
    assert reader.read([65] * 1000) is not None
    assert decoder.read == [65] * 1000, "what was read before the stop is not read again"


@pytest.mark.parametrize("kind", [ScriptedDecoder, ForgetfulDecoder])
def test_a_cache_is_kept_as_far_as_it_can_be(kind: type[ScriptedDecoder]) -> None:
    decoder = kind()
    reader = Reader(decoder)  # type: ignore[arg-type]
    reader.read([1, 2, 3, 4])
    reader.read([1, 2, 3, 4, 5])
    assert decoder.read == [1, 2, 3, 4, 5], "what is only longer needs no cut"
    reader.read([1, 2, 9])
    expected = [9] if kind is ScriptedDecoder else [1, 2, 9]
    assert decoder.read == [1, 2, 3, 4, 5, *expected]
    assert reader.ids == decoder.cache == [1, 2, 9]
    reader.read([1, 2, 9])
    assert decoder.cache == [1, 2, 9]
    reader.read([8])
    assert decoder.cache == [8]


def test_an_answer_goes_on_after_the_text_that_it_follows() -> None:
    def decode(ids: Any) -> str:  # as SentencePiece does: a blank at the very beginning is none
        return "".join(" word"[: 5 * (token == 1)] for token in ids).removeprefix(" ")

    decoder = ScriptedDecoder()
    decoder.decode = decode  # type: ignore[method-assign]
    decoder._next = lambda: 1  # type: ignore[method-assign]
    assert "".join(answered(decoder, [1], tokens=2)[1]) == " word word"


def test_what_does_not_fit_is_told_before_anything_is_read() -> None:
    decoder = ScriptedDecoder(context_tokens=30)
    model = scripted(decoder)
    assert room(model, [1] * 10, None) == 20
    assert room(model, [1] * 10, 20) == 20
    assert room(scripted(ScriptedDecoder()), [1] * 10, None) == 512
    wrong: list[tuple[int, int | None, str]] = [
        (30, None, "30 tokens of prompt do not fit into a context of 30; shorten the text, or --context up to 4000"),
        (10, 21, "10 tokens of prompt and 21 of an answer do not fit into a context of 30; shorten the text, or ask"),
    ]
    for tokens, most, said in wrong:
        with pytest.raises(ModelError, match=said):
            room(model, [1] * tokens, most)
    assert not decoder.read


def test_a_prompt_goes_through_the_template_where_the_model_holds_conversations() -> None:
    turns, documents_alone = (scripted(ScriptedDecoder(), conversations=held) for held in (True, False))
    assert prompt_of(turns, "hi") == list(b"\x01hi\x02")
    assert prompt_of(turns, "hi", raw=True) == prompt_of(documents_alone, "hi") == list(b"hi")


def test_a_model_is_asked_under_the_words_that_it_learned_under() -> None:
    model = replace(scripted(ScriptedDecoder()), system="Be kind.")
    assert prompt_of(model, "hi") == list(b"Be kind.\x01hi\x02")
    assert prompt_of(model, "hi", system="Be odd.") == list(b"Be odd.\x01hi\x02")
    assert prompt_of(model, "hi", raw=True) == list(b"hi")
    with pytest.raises(RecipeError, match="leave out --system"):
        prompt_of(model, "hi", raw=True, system="Be odd.")


def test_options_know_what_was_set() -> None:
    assert GenerationOptions().given() == ()
    assert GenerationOptions(seed=0, threads=2).given() == ("seed", "threads")
    assert GenerationOptions(temperature=0.5, top_k=3).sampling() == Sampling(0.5, 3)
    assert GenerationOptions().sampling() == GREEDY
    assert GenerationOptions(temperature=0.5, seed=0).sampling() == Sampling(0.5)
    for seed in (0, 3):
        with pytest.raises(RecipeError, match=f"seed {seed} is that of the draws, and temperature 0 draws nothing"):
            GenerationOptions(seed=seed).sampling()


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert harmless("a\x1b[2J\x07\x7f\x9b\tb\n") == "a␛[2J␇␡\N{REPLACEMENT CHARACTER}\tb\n"
    assert harmless("नमस्ते 🎬 é") == "नमस्ते 🎬 é"
