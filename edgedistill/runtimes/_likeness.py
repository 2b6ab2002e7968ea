"""Whether a language model in its runtime is that of a checkpoint: same ids, same conversations, nearly same logits."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edgedistill.errors import StageError
from edgedistill.training.counted_rows import CountedRows
from edgedistill.training.positions import Answer, divergence, log_probabilities

ROWS = 16
SURE = 1.0  # logits by which the likeliest token leads
LIMITS = {"float": (1e-4, 0.999), "quantized": (0.02, 0.98)}  # mean KL in nats, and agreement of sure positions


def same_ids(tokenizer: Any, loaded: Any, texts: Iterable[str]) -> int:
    """Return how many texts checkpoint and runtime read as the same ids: all, or it is an error.

    Raises:
        StageError: one has other ids; the text is in the message.
    """
    count = 0
    for text in texts:
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        given = loaded.encode(text, special=True)
        if given != expected:
            raise StageError(
                f"the file's tokenizer reads {text[:60]!r} as other ids than the checkpoint's: {given[:12]} instead of "
                f"{expected[:12]}"
            )
        count += 1
    return count


def same_beginning(tokenizer: Any, loaded: Any) -> None:
    """Check that checkpoint and runtime put the same ids before a document; `same_ids` asks for texts without.

    Raises:
        StageError: they do not.
    """
    whole, bare = (tokenizer("a", add_special_tokens=adds)["input_ids"] for adds in (True, False))
    expected, given = whole[: whole.index(bare[0])], list(loaded.begin)
    if given != expected:
        raise StageError(
            f"the file's tokenizer begins a text with the ids {given}, and the checkpoint's with {expected}"
        )


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


def compared(
    expected: Answer, given: Answer, rows: CountedRows, vocabulary: int, most: int = ROWS
) -> tuple[float, float, float]:
    """Return mean KL in nats, agreement, and agreement where the likeliest token leads by SURE, on the first rows.

    Args:
        expected: the model as it should be.
        given: the model in its runtime.
        rows: of which the first `most` are asked about.
        vocabulary: ids that the tokenizer knows.
    """
    found: list[tuple[np.ndarray, ...]] = []
    for number in range(min(most, len(rows.offsets) - 1)):
        row = rows.row(number)
        of_one, of_other = (said(row.ids)[row.places, :vocabulary] for said in (expected, given))
        best = np.sort(of_one, axis=1)[:, -2:]
        same = of_one.argmax(axis=1) == of_other.argmax(axis=1)
        kl = divergence(log_probabilities(of_one), log_probabilities(of_other))
        found.append((kl, same, best[:, 1] - best[:, 0]))
    apart, same, lead = (np.concatenate(part) for part in zip(*found, strict=True))
    sure = same[lead >= SURE]
    return float(apart.mean()), float(same.mean()), float(sure.mean()) if len(sure) else 1.0
