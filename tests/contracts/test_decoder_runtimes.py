"""What every runtime of language models must keep, however many are added."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from decoder_runtimes import CACHED, MADE, NEEDS
from tiny_decoders import (
    ARCHITECTURES,
    MAX_TOKENS,
    PRE_TOKENIZERS,
    SPECIAL,
    TEMPLATE,
    VOCAB,
    documents,
    write_decoder,
    write_gguf,
)

from edgedistill import registry
from edgedistill.errors import ModelError
from edgedistill.models.load import load_tokenizer
from edgedistill.runtimes._decoder import LoadedDecoder, Rewinding, TextStream

RUNTIMES = "edgedistill.runtimes"
DECODERS = tuple(name for name in registry.names(RUNTIMES) if "decoder" in registry.load(RUNTIMES, name).SERVES)
CONTEXT_TOKENS = 96
ODD_TEXTS = [
    "",
    " ",
    "a",
    "\n\n  \t",
    "🎬 плот 映画",
    "e\u0301 नमस्ते",
    "\x00\x16",
    "1234 56",
    "a " * 200,
    "<|im_end|",
    "\ud800",
]
MESSAGES = [{"role": "user", "content": "The cat sees the moon."}, {"role": "assistant", "content": "Yes 2 times."}]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("decoder")
    write_decoder(root)
    return root


@pytest.fixture(scope="module", params=DECODERS)
def loaded(request: pytest.FixtureRequest, checkpoint: Path) -> tuple[ModuleType, str]:
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param], reason="its bindings are an extra")
    return registry.load(RUNTIMES, request.param), MADE[request.param](checkpoint)


@pytest.fixture(scope="module")
def decoder(loaded: tuple[ModuleType, str], checkpoint: Path) -> LoadedDecoder:
    runtime, file = loaded
    made: LoadedDecoder = runtime.load(checkpoint, file, threads=1, context_tokens=CONTEXT_TOKENS, exact=True)
    return made


def close(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(np.abs(one - other).max() < 1e-3 * max(1.0, np.abs(other).max()))


def faults(decoder: LoadedDecoder) -> list[str]:
    """Return what a decoder does wrong."""
    found = [*_faults_of_texts(decoder), *_faults_of_logits(decoder)]
    return found or _faults_of_the_cache(decoder)


def _faults_of_texts(decoder: LoadedDecoder) -> list[str]:
    found = []
    for text in documents(5):
        if decoder.decode(decoder.encode(text, special=False)) != text:
            found.append("a text comes back from its ids")
    start, end = SPECIAL[1:]
    turn = f"{start}user\nhi{end}"
    plain, parsed = (decoder.encode(turn, special=special) for special in (False, True))
    if (parsed[0], parsed[-1]) != (1, 2) or {1, 2} & set(plain):
        found.append("names of special tokens are special where asked, and nowhere else")
    if decoder.decode(parsed) != turn or decoder.decode(plain) != turn:
        found.append("special tokens are spelled out")
    if decoder.ends != {2} and decoder.ends != {0, 2}:
        found.append("it says after which ids there is nothing to say")
    if decoder.begin != ():
        found.append("it says what stands before a document")
    return found


def _faults_of_logits(decoder: LoadedDecoder) -> list[str]:
    found, ids = [], decoder.encode(documents(1)[0] * 2, special=False)[:40]
    whole = decoder.logits(ids)
    if whole.shape != (40, decoder.vocabulary) or whole.dtype != np.float32:
        found.append("logits are float32, (tokens, vocabulary)")
        return found
    if not close(decoder.logits(ids[:7]), whole[:7]):
        found.append("a token knows nothing of those after it")
    decoder.prefill(ids[::-1])
    if not close(decoder.logits(ids), whole):
        found.append("a row's logits do not depend on what was read before")
    return found


def _faults_of_the_cache(decoder: LoadedDecoder) -> list[str]:
    found, ids = [], decoder.encode(documents(1)[0] * 2, special=False)[:40]
    whole = decoder.logits(ids)
    if not close(decoder.prefill(ids[:20]), whole[19]):
        found.append("prefill begins with an empty cache after logits, and gives the last token's logits")
    steps = np.array([decoder.step(token) for token in ids[20:30]])
    if not close(steps, whole[20:30]):
        found.append("step by step gives what one prefill gives")
    if not close(decoder.prefill(ids[30:]), whole[-1]):
        found.append("a further prefill goes on after what was read")
    decoder.reset()
    if not close(decoder.prefill(ids[:9]), whole[8]):
        found.append("reset forgets everything")
    kept = decoder.step(ids[9])
    copied = kept.copy()
    decoder.step(ids[10])
    if not np.array_equal(kept, copied):
        found.append("logits that were given out stay as they are")
    decoder.reset()
    if isinstance(decoder, Rewinding) and not _rewinds(decoder, ids, whole):
        found.append("what is rewound and read again is read as before")
    if decoder.kv_cache_bytes(2 * 10) != 2 * decoder.kv_cache_bytes(10) or decoder.kv_cache_bytes(1) < 1:
        found.append("the cache grows with its tokens")
    return found


def _rewinds(decoder: Any, ids: list[int], whole: np.ndarray) -> bool:
    """Whether a cache that is cut goes on from there, and is as empty as it says where it cannot be cut."""
    decoder.reset()
    decoder.prefill([*ids[:20], *ids[5:15]])
    kept = 20 if decoder.rewind(20) else 0
    if not close(decoder.prefill(ids[kept:30]), whole[29]):
        return False
    kept = 29 if decoder.rewind(29) else 0
    return close(decoder.prefill(ids[kept:30]), whole[29])


def test_every_decoder_runtime_keeps_the_contract(loaded: tuple[ModuleType, str], decoder: LoadedDecoder) -> None:
    runtime, _ = loaded
    assert list(inspect.signature(runtime.load).parameters) == ["root", "file", "threads", "context_tokens", "exact"]
    assert not faults(decoder)
    assert decoder.threads == 1
    assert decoder.vocabulary == VOCAB
    assert decoder.context_tokens == CONTEXT_TOKENS
    assert all(isinstance(version, str) and version for version in runtime.versions().values())


def test_every_decoder_computes_what_the_checkpoint_computes(decoder: LoadedDecoder, checkpoint: Path) -> None:
    import torch
    import transformers

    auto: Any = transformers.AutoModelForCausalLM
    model = auto.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = load_tokenizer(checkpoint)
    for text in documents(4):
        ids = tokenizer(text)["input_ids"]
        assert decoder.encode(text, special=False) == ids
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids])).logits[0].numpy()
        said = decoder.logits(ids)
        assert np.abs(said - expected).max() < 1e-3
        assert np.array_equal(said.argmax(axis=1), expected.argmax(axis=1))
        assert np.ptp(expected) > 1, "logits that are all alike would prove nothing"


@pytest.mark.parametrize(("architecture", "pre"), [*zip(ARCHITECTURES, PRE_TOKENIZERS, strict=True)])
def test_llama_cpp_computes_what_pytorch_computes(architecture: str, pre: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="its bindings are an extra")
    write_decoder(tmp_path, architecture, pre=pre)
    here = registry.load(RUNTIMES, "pytorch_decoder").load(tmp_path, threads=1, context_tokens=MAX_TOKENS)
    load = registry.load(RUNTIMES, "llama_cpp").load
    ids = here.encode(documents(1, seed=2)[0], special=False)
    apart = {}
    for stored_as in ("F32", "F16", "Q8_0"):
        file = write_gguf(tmp_path, tmp_path / f"{stored_as}.gguf", pre=pre, stored_as=stored_as)
        there = load(tmp_path, file.name, threads=1, context_tokens=MAX_TOKENS, exact=True)
        assert there.encode(documents(1, seed=2)[0], special=False) == ids
        apart[stored_as] = float(np.abs(there.logits(ids) - here.logits(ids)).max())
    assert apart["F32"] < 1e-4
    assert apart["F32"] < apart["F16"] < apart["Q8_0"] < 1


def test_every_decoder_puts_a_conversation_together_alike(decoder: LoadedDecoder, checkpoint: Path) -> None:
    tokenizer = load_tokenizer(checkpoint)
    expected = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    ids = decoder.chat(MESSAGES)
    assert decoder.decode(ids) == expected
    assert ids == tokenizer(expected, add_special_tokens=False)["input_ids"]
    assert expected.endswith("<|im_start|>assistant\n")
    assert "add_generation_prompt" in TEMPLATE


@pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
def test_every_decoder_reads_odd_texts_as_the_checkpoint_does(
    decoder: LoadedDecoder, checkpoint: Path, text: str
) -> None:
    readable = text.encode("utf-8", errors="replace").decode("utf-8")
    for special in (False, True):
        ids = decoder.encode(text, special=special)
        assert decoder.decode(ids) == readable
        assert (
            ids
            == load_tokenizer(checkpoint)(
                readable, add_special_tokens=False, split_special_tokens=not special
            ).input_ids
        )
        if 0 < len(ids) <= CONTEXT_TOKENS:
            assert np.isfinite(decoder.logits(ids)).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda d: d.logits([3] * (CONTEXT_TOKENS + 1)), f"{CONTEXT_TOKENS + 1} tokens do not fit into a context of"),
        (lambda d: d.prefill([3] * (CONTEXT_TOKENS + 1)), "load the model with a longer context"),
        (lambda d: (d.prefill([3] * CONTEXT_TOKENS), d.step(3)), f"{CONTEXT_TOKENS + 1} tokens do not fit"),
        (lambda d: d.logits([3, VOCAB]), f"token id {VOCAB} is not one of this model's {VOCAB}"),
        (lambda d: d.prefill([-1]), "token id -1 is not one"),
        (lambda d: d.logits([]), "there is no token to read"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_harms_nothing(decoder: LoadedDecoder, wrong: Any, said: str) -> None:
    decoder.reset()
    before = decoder.logits([5, 6, 7])
    with pytest.raises(ModelError, match=said):
        wrong(decoder)
    assert np.array_equal(decoder.logits([5, 6, 7]), before)


def test_a_row_may_fill_the_whole_context(decoder: LoadedDecoder) -> None:
    ids = np.random.default_rng(0).integers(3, VOCAB, size=CONTEXT_TOKENS).tolist()
    whole = decoder.logits(ids)
    decoder.prefill(ids[:-1])
    assert close(decoder.step(ids[-1]), whole[-1])


@pytest.mark.parametrize("context_tokens", [0, MAX_TOKENS + 1])
def test_a_context_that_the_model_was_not_made_for_is_an_error(
    loaded: tuple[ModuleType, str], checkpoint: Path, context_tokens: int
) -> None:
    with pytest.raises(ModelError, match=f"reads 1 to {MAX_TOKENS} tokens, not {context_tokens}"):
        loaded[0].load(checkpoint, loaded[1], threads=1, context_tokens=context_tokens)


def test_a_runtime_says_nothing_while_all_is_well(
    loaded: tuple[ModuleType, str], checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    decoder = loaded[0].load(checkpoint, loaded[1], threads=1, context_tokens=32)
    decoder.logits(decoder.encode("the cat " * 200, special=True)[:32])
    assert capfd.readouterr() == ("", "")


def test_what_is_no_model_is_an_error(loaded: tuple[ModuleType, str], tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    for file in ("model.gguf", "nowhere.gguf"):
        with pytest.raises(ModelError, match=r"not a model|not there|names no architecture"):
            loaded[0].load(tmp_path, file, threads=1, context_tokens=8)


def test_every_decoder_runs_with_as_many_threads_as_asked(loaded: tuple[ModuleType, str], checkpoint: Path) -> None:
    for asked in (3, 2, 1):
        assert loaded[0].load(checkpoint, loaded[1], threads=asked, context_tokens=8).threads == asked


@pytest.mark.parametrize("exact", [True, False])
def test_the_cache_is_as_large_as_it_says(loaded: tuple[ModuleType, str], checkpoint: Path, exact: bool) -> None:
    runtime, file = loaded
    decoder = runtime.load(checkpoint, file, threads=1, context_tokens=CONTEXT_TOKENS, exact=exact)
    decoder.prefill([5] * 10)
    before = CACHED[runtime.__name__.rpartition(".")[2]](decoder)
    decoder.prefill([5] * 80)
    grown = CACHED[runtime.__name__.rpartition(".")[2]](decoder) - before
    assert grown == pytest.approx(decoder.kv_cache_bytes(80), rel=0.06)  # llama.cpp notes each token's place, too


def test_ids_may_come_from_an_array(decoder: LoadedDecoder) -> None:
    ids: Any = np.array([5, 6, 7], dtype=np.int32)
    assert np.array_equal(decoder.logits(ids), decoder.logits([5, 6, 7]))
    assert close(decoder.prefill(ids), decoder.logits([5, 6, 7])[-1])
    assert close(decoder.step(ids[0]), decoder.logits([5])[0])
    assert decoder.decode(ids) == decoder.decode([5, 6, 7])


def test_deployed_and_exact_say_nearly_the_same(loaded: tuple[ModuleType, str], checkpoint: Path) -> None:
    runtime, file = loaded
    exact, deployed = (
        runtime.load(checkpoint, file, threads=1, context_tokens=32, exact=exact) for exact in (True, False)
    )
    ids = exact.encode(documents(1)[0], special=False)[:32]
    assert np.abs(exact.logits(ids) - deployed.logits(ids)).max() < 0.05


class _Wrapped:
    """A decoder with one thing broken."""

    def __init__(self, decoder: LoadedDecoder, **broken: Any) -> None:
        self._decoder = decoder
        self.__dict__ |= broken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)


def test_the_contract_rejects_broken_decoders(decoder: LoadedDecoder) -> None:
    last = np.zeros(decoder.vocabulary, np.float32)

    def shared(given: np.ndarray) -> np.ndarray:
        last[:] = given
        return last

    def backwards(ids: Sequence[int]) -> np.ndarray:
        return decoder.logits(ids) + np.float32(len(ids))

    broken: list[dict[str, Any]] = [
        {"encode": lambda text, special: decoder.encode(text, special=False)},
        {"encode": lambda text, special: decoder.encode(text, special=True)},
        {"encode": lambda text, special: [1, *decoder.encode(text, special=special)]},
        {"decode": lambda ids: decoder.decode([i for i in ids if i > 2])},
        {"decode": lambda ids: decoder.decode(ids).strip(".")},
        {"ends": frozenset()},
        {"begin": (1,)},
        {"logits": lambda ids: decoder.logits(ids).astype(np.float64)},
        {"logits": lambda ids: decoder.logits(ids)[-1:]},
        {"logits": backwards},
        {"reset": lambda: None},
        {"step": lambda token: decoder.step(0)},
        {"step": lambda token: shared(decoder.step(token))},
        {"prefill": lambda ids: (decoder.reset(), decoder.prefill(ids))[1]},
        {"kv_cache_bytes": lambda tokens: 4096},
        {"rewind": lambda tokens: True},
        {"rewind": lambda tokens: decoder.rewind(tokens - 1)},  # type: ignore[attr-defined]
    ]
    assert not faults(_Wrapped(decoder))  # type: ignore[arg-type]
    for change in broken:
        assert faults(_Wrapped(decoder, **change)), change  # type: ignore[arg-type]
        decoder.reset()


def stream_of(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> list[str]:
    stream = TextStream(decode)
    return [*(stream.push(token) for token in ids), stream.end()]


def test_text_comes_token_by_token_and_never_half_a_character(decoder: LoadedDecoder) -> None:
    for text in (*documents(3), "🎬 плот 映画 e\u0301!", "नमस्ते", "a\N{REPLACEMENT CHARACTER}b", "  two  spaces\n"):
        ids = decoder.encode(text, special=False)
        pieces = stream_of(decoder.decode, ids)
        assert "".join(pieces) == text
        assert sum(map(bool, pieces)) > 1, "it comes in parts"
        assert "\N{REPLACEMENT CHARACTER}" in text or not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    film = decoder.encode("🎬", special=False)
    assert len(film) == 4, "one byte each"
    assert stream_of(decoder.decode, film) == ["", "", "", "🎬", ""]
    assert stream_of(decoder.decode, film[:3])[-1] == "\N{REPLACEMENT CHARACTER}", "what stays half is told at the end"
    one_by_one = [decoder.decode([token]) for token in film]
    assert any("\N{REPLACEMENT CHARACTER}" in piece for piece in one_by_one), "there was something to hold back"
