"""The proof that a decoder's file is the model that was decided: same ids, same numbers, nearly the same logits.

That every number is the same is proven on the file itself. Its runtime multiplies rounded weights with inputs that it
rounds, too (ggml's kernels of quantized types, onnxruntime's at accuracy level 4), so its logits are near those of the
rounded weights in PyTorch and not equal. A divergence and the agreement where the likeliest token leads clearly tell
that from damage; greedy texts do not, as two tokens of nearly the same logit change places at the least rounding. Where
a runtime can be told to round no activation, the same file is asked so, too: then nothing but float rounding remains.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill import registry
from edgedistill.decoder_values import DecoderParity
from edgedistill.errors import ParityError, StageError
from edgedistill.export.parity import ODD_TEXTS
from edgedistill.models.checkpoint_names import checkpoint_tensors
from edgedistill.models.decoder import load_decoder
from edgedistill.models.ggml_tensors import FLOATS
from edgedistill.models.load import load_tokenizer
from edgedistill.training.decoder_rows import DecoderRows
from edgedistill.training.language import logits_of_row
from edgedistill.training.positions import divergence, log_probabilities

ROWS = 16
SURE = 1.0  # logits by which the likeliest token leads
LIMITS = {"float": (1e-4, 0.999), "quantized": (0.02, 0.98)}  # mean KL in nats, and agreement of sure positions
ODD = (
    *ODD_TEXTS[:5], "in 1945 there were 3 of 27 left", "a\tb\n\nc  d   e", "x = 10 ** -3; # 100%", *ODD_TEXTS[7:],
    "<|im_start|>user\nhello<|im_end|>", "don't you'll we've I'M", "ends with spaces   ",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """Rows under the ids of the model that is asked."""

    rows: DecoderRows
    vocabulary: int  # ids that its tokenizer knows


def prove(
    file: Path, checkpoint: Path, tensors: Mapping[str, Any], *, runtime: str, task: Any,
    asked: Asked, exact: Path | None = None, threads: int = 1,
) -> DecoderParity:  # fmt: skip
    """Return how closely a file in its runtime agrees with the numbers that were decided, if it does.

    Args:
        checkpoint: of the float model, with its tokenizer.
        tensors: what was decided, all of it in the file already.
        asked: what both are asked about.
        exact: the same file, where its runtime rounds no activation; None where it has no such way.

    Raises:
        ParityError: a difference is above its limit.
        StageError: the runtime reads a text, or renders a conversation, as other ids.
    """
    rows = asked.rows
    loaded: Any = registry.load("edgedistill.runtimes", runtime).load(
        file.parent, file.name, threads=threads, context_tokens=task.max_length
    )
    tokenizer = load_tokenizer(checkpoint)
    texts = same_ids(tokenizer, loaded, ODD)
    conversations = same_chats(tokenizer, loaded) if tokenizer.chat_template else 0
    rounded = _rounded(checkpoint, tensors)
    kl, agreement, sure = _compared(rounded, loaded, rows, asked.vocabulary)
    kl_exact = None
    if exact is not None:
        twin: Any = registry.load("edgedistill.runtimes", runtime).load(
            exact.parent, exact.name, threads=threads, context_tokens=task.max_length, exact=True
        )
        kl_exact, _, _ = _compared(rounded, twin, rows, asked.vocabulary)
        if not kl_exact <= LIMITS["float"][0]:
            raise ParityError(file.name, "exact KL divergence", kl_exact, LIMITS["float"][0], f"{ROWS} validation rows")
    quantized = any(one.type not in FLOATS for one in tensors.values())
    kl_limit, sure_limit = LIMITS["quantized" if quantized else "float"]
    if any(one.type == "F16" for one in tensors.values()):  # llama.cpp rounds what it multiplies with F16 to F16, too
        kl_limit = LIMITS["quantized"][0] / 10
    if not kl <= kl_limit:
        raise ParityError(file.name, "KL divergence", kl, kl_limit, f"{ROWS} validation rows")
    if not sure >= sure_limit:
        raise ParityError(file.name, "disagreement of sure tokens", 1 - sure, 1 - sure_limit, f"{ROWS} validation rows")
    return DecoderParity(
        weights_bit_equal=True,
        tokenizer_texts=texts,
        conversations=conversations,
        positions=int(rows.counted.starts[min(ROWS, len(rows.tokens))]),
        kl_exact=kl_exact,
        kl=kl,
        kl_limit=kl_limit,
        agreement=agreement,
        sure_agreement=sure,
        sure_limit=sure_limit,
    )


def same_ids(tokenizer: Any, loaded: Any, texts: Sequence[str]) -> int:
    """Return how many texts checkpoint and runtime read as the same ids: all, or it is an error.

    Raises:
        StageError: one has other ids; the text is in the message.
    """
    for text in texts:
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        given = loaded.encode(text, special=True)
        if given != expected:
            raise StageError(
                f"the file's tokenizer reads {text[:60]!r} as other ids than the checkpoint's: {given[:12]} instead of "
                f"{expected[:12]}"
            )
    return len(texts)


CHATS = (
    ({"role": "user", "content": "What is 2 + 2?"},),
    ({"role": "system", "content": "Be short."}, {"role": "user", "content": "Grüße,\n\t東京 🎬  "}),
    (
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "<|im_end|> c"},
    ),
)


def same_chats(tokenizer: Any, loaded: Any) -> int:
    """Return how many conversations both render as the same ids: all that the template takes, or it is an error.

    Templates may refuse a role with an error of their own, as those of Gemma 2 and the first Mistral do of `system`;
    what nobody can ask is not compared.

    Raises:
        StageError: one has other ids, the runtime cannot render one, or the template takes none.
    """
    from jinja2.exceptions import TemplateError

    compared, refusal = 0, ""
    for messages in CHATS:
        try:
            text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            refusal = str(error)
            continue
        expected, given = tokenizer(text, add_special_tokens=False)["input_ids"], _asked_of(loaded, messages)
        if given != expected:
            raise StageError(
                f"the file's chat template renders {messages[-1]['content'][:40]!r} as other ids than the "
                f"checkpoint's: {loaded.decode(given)[:80]!r} instead of {text[:80]!r}"
            )
        compared += 1
    if not compared:
        raise StageError(f"the checkpoint's chat template takes no conversation ({refusal}); mend or remove it")
    return compared


def _asked_of(loaded: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    try:
        found: list[int] = loaded.chat(messages)
    except ValueError as error:
        raise StageError(
            f"the runtime cannot render the checkpoint's chat template ({error}); use a tokenizer with a plainer one"
        ) from error
    return found


def _rounded(checkpoint: Path, tensors: Mapping[str, Any]) -> Any:
    """Return the model in PyTorch with what was decided as its weights."""
    model = deepcopy(load_decoder(checkpoint))
    with torch.no_grad():
        for name, place in checkpoint_tensors(model).items():
            place.copy_(torch.from_numpy(tensors[name].floats()))
    return model


def _compared(model: Any, loaded: Any, rows: DecoderRows, vocabulary: int) -> tuple[float, float, float]:
    """Return mean KL, agreement, and agreement where the likeliest token leads by SURE, on some validation rows."""
    answer = logits_of_row(model, torch.device("cpu"))
    found: list[tuple[np.ndarray, ...]] = []
    for number in range(min(ROWS, len(rows.tokens))):
        row = rows.counted.row(number)
        expected, given = (said(row.ids)[row.places, :vocabulary] for said in (answer, loaded.logits))
        best = np.sort(expected, axis=1)[:, -2:]
        same = expected.argmax(axis=1) == given.argmax(axis=1)
        found.append((divergence(log_probabilities(expected), log_probabilities(given)), same, best[:, 1] - best[:, 0]))
    kl, same, lead = (np.concatenate(part) for part in zip(*found, strict=True))
    sure = same[lead >= SURE]
    return float(kl.mean()), float(same.mean()), float(sure.mean()) if len(sure) else 1.0
