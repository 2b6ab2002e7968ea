"""The gate of language models' files: what does not compute what was decided is no artifact."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_decoders import VOCAB, write_decoder
from transformers import AutoTokenizer

from edgedistill.errors import ParityError, StageError
from edgedistill.export import decoder, decoder_parity
from edgedistill.export.decoder_file import Described
from edgedistill.export.decoder_parity import LIMITS, Asked, prove
from edgedistill.models.checkpoint_names import checkpoint_tensors
from edgedistill.models.decoder import load_decoder
from edgedistill.models.ggml_tensors import GgmlTensor
from edgedistill.training.counted_rows import CountedRows
from edgedistill.training.decoder_rows import DecoderRows
from edgedistill.training.rows import TokenRows

LENGTH = 24


class Runs:
    """A runtime that computes the checkpoint, and something else."""

    begin = ()

    def __init__(self, checkpoint: Path, wrong: np.ndarray | float) -> None:
        self.model, self.tokenizer = load_decoder(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
        self.wrong = wrong

    def encode(self, text: str, *, special: bool) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids))

    def chat(self, messages: Any) -> list[int]:
        return self.encode(
            self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True), special=True
        )

    @torch.no_grad()
    def logits(self, ids: Any) -> np.ndarray:
        asked = torch.tensor([[int(one) for one in ids]])
        said = self.model(asked, torch.ones_like(asked))
        return np.asarray(said[0]) + self.wrong


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    write_decoder(folder)
    return folder


def proven(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, wrong: Any, *, exact: Any = None) -> Any:
    def load(place: Path, file: str, *, exact: bool = False, **_: Any) -> Runs:
        return Runs(checkpoint, exact_wrong if exact else wrong)

    exact_wrong = 0.0 if exact is None else exact
    monkeypatch.setattr(decoder_parity.registry, "load", lambda *_: SimpleNamespace(load=load))
    ids = np.random.default_rng(0).integers(3, VOCAB, 4 * LENGTH).astype(np.int32)
    offsets = np.arange(0, len(ids) + 1, LENGTH)
    counted = CountedRows(ids, offsets, np.arange(len(ids)) % LENGTH > 0)
    rows = DecoderRows(TokenRows(ids, offsets, 0), counted, np.arange(4))
    named = checkpoint_tensors(load_decoder(checkpoint)).items()
    tensors = {name: GgmlTensor("F32", tuple(one.shape), one.detach().numpy()) for name, one in named}
    return prove(
        checkpoint / "made.gguf", checkpoint, tensors, runtime="any", task=SimpleNamespace(max_length=LENGTH),
        asked=Asked(rows, VOCAB), exact=None if exact is None else checkpoint / "made.gguf",
    )  # fmt: skip


def test_the_same_numbers_pass(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = proven(checkpoint, monkeypatch, 0.0, exact=0.0)
    assert found.kl <= 1e-9
    assert found.kl_exact <= 1e-9
    assert found.agreement == found.sure_agreement == 1
    assert found.positions == 4 * (LENGTH - 1)
    assert found.kl_limit == LIMITS["float"][0]


def test_other_logits_fail(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tilt = np.linspace(0, 3, VOCAB, dtype=np.float32)
    with pytest.raises(ParityError, match="KL divergence"):
        proven(checkpoint, monkeypatch, tilt)
    with pytest.raises(ParityError, match="KL divergence"):
        proven(checkpoint, monkeypatch, np.nan)
    with pytest.raises(ParityError, match="exact KL divergence"):
        proven(checkpoint, monkeypatch, 0.0, exact=tilt)


def test_other_sure_tokens_fail(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the mean divergence would pass."""
    monkeypatch.setitem(LIMITS, "float", (1e3, LIMITS["float"][1]))
    with pytest.raises(ParityError, match="disagreement of sure tokens"):
        proven(checkpoint, monkeypatch, np.linspace(0, 30, VOCAB, dtype=np.float32))


def test_a_float_among_codes_makes_no_limit_stricter() -> None:
    assert decoder_parity._limits({"F32", "Q4_K", "F16"}) == decoder_parity._limits({"F32", "Q4_K"})
    assert decoder_parity._limits({"F32"}) < decoder_parity._limits({"F32", "F16"})
    assert decoder_parity._limits({"F32", "F16"})[0] < decoder_parity._limits({"INT4_32"})[0]


def test_a_file_that_reads_otherwise_fails(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits are asked of ids, and would be the same."""
    whole = Runs.chat
    monkeypatch.setattr(Runs, "chat", lambda runs, messages: whole(runs, messages)[1:])
    with pytest.raises(StageError, match="chat template renders"):
        proven(checkpoint, monkeypatch, 0.0)
    monkeypatch.setattr(Runs, "begin", (1,))
    with pytest.raises(StageError, match=r"begins a text with the ids \[1\], and the checkpoint's with \[\]"):
        proven(checkpoint, monkeypatch, 0.0)
    monkeypatch.setattr(Runs, "encode", lambda *_, special: [3])
    with pytest.raises(StageError, match="as other ids than the checkpoint's"):
        proven(checkpoint, monkeypatch, 0.0)


def test_a_file_that_holds_other_numbers_fails_before_it_is_asked(tmp_path: Path) -> None:
    layout: Any = SimpleNamespace(
        start=lambda checkpoint, _: checkpoint,
        place=lambda root, _: root / "made.gguf",
        write=lambda place, *_: place.touch(),
        differences=lambda *_: ["lm_head.weight"],
    )
    options: Any = None
    writer = decoder._Writer(layout, options, tmp_path, tmp_path, tmp_path, None, Asked(options, VOCAB))
    with pytest.raises(StageError, match=r"made.gguf does not hold what was decided of: lm_head.weight"):
        writer.file(Described("any", "1.0", "MIT", "q8_0", 1, {}), {})
