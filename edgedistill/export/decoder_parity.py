"""The proof that a decoder's file is the model that was decided: same ids, same numbers, nearly the same logits.

That every number is the same is proven on the file itself. Its runtime multiplies rounded weights with inputs that it
rounds, too (ggml's kernels of quantized types, onnxruntime's at accuracy level 4), so its logits are near those of the
rounded weights in PyTorch and not equal. A divergence and the agreement where the likeliest token leads clearly tell
that from damage; greedy texts do not, as two tokens of nearly the same logit change places at the least rounding. Where
a runtime can be told to round no activation, the same file is asked so, too: then nothing but float rounding remains.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgedistill import registry
from edgedistill.decoder_values import DecoderParity
from edgedistill.errors import ParityError
from edgedistill.models.decoder import load_decoder
from edgedistill.models.ggml_tensors import FLOATS
from edgedistill.models.load import load_tokenizer
from edgedistill.quantize.rounded import put
from edgedistill.runtimes._likeness import LIMITS, ROWS, compared, same_beginning, same_chats, same_ids
from edgedistill.runtimes._odd_texts import ODD_DECODER_TEXTS
from edgedistill.training.decoder_rows import DecoderRows
from edgedistill.training.language import logits_of_row


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
        StageError: the runtime reads or begins a text, or renders a conversation, as other ids.
    """
    rows = asked.rows
    loaded: Any = registry.load("edgedistill.runtimes", runtime).load(
        file.parent, file.name, threads=threads, context_tokens=task.max_length
    )
    tokenizer = load_tokenizer(checkpoint)
    texts = same_ids(tokenizer, loaded, ODD_DECODER_TEXTS)
    same_beginning(tokenizer, loaded)
    conversations = same_chats(tokenizer, loaded) if tokenizer.chat_template else 0
    rounded = load_decoder(checkpoint)
    put(tensors, rounded)
    expected = logits_of_row(rounded, torch.device("cpu"))
    kl, agreement, sure = compared(expected, loaded.logits, rows.counted, asked.vocabulary)
    kl_exact = None
    if exact is not None:
        twin: Any = registry.load("edgedistill.runtimes", runtime).load(
            exact.parent, exact.name, threads=threads, context_tokens=task.max_length, exact=True
        )
        kl_exact, _, _ = compared(expected, twin.logits, rows.counted, asked.vocabulary)
        if not kl_exact <= LIMITS["float"][0]:
            raise ParityError(file.name, "exact KL divergence", kl_exact, LIMITS["float"][0], f"{ROWS} validation rows")
    kl_limit, sure_limit = _limits({one.type for one in tensors.values()})
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


def _limits(types: Collection[str]) -> tuple[float, float]:
    """Return the most KL, in nats, and the least agreement of sure positions, for a model stored in these types."""
    if not FLOATS.keys() >= set(types):
        return LIMITS["quantized"]
    kl, sure = LIMITS["float"]
    return (LIMITS["quantized"][0] / 10 if "F16" in types else kl), sure  # llama.cpp rounds what meets F16 to F16, too
