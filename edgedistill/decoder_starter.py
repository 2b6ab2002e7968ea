"""A first recipe for a causal language model and a file of texts or conversations, with a comment on every choice."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.errors import DataError
from edgedistill.glance import TEXT_NAMES, TeacherGlance, delimiter_of, rows_of, source_of

MAX_LENGTH = 256
NEURONS_STEP = 32  # the share that stays is rounded to it; the step of most block-wise types
PROMPT_NAMES = ("prompt", "instruction", "question", "input", "user", "query", "request")
ANSWER_NAMES = ("answer", "response", "completion", "output", "assistant", "reply", "target")

TEMPLATE = """\
# {name}: a first recipe; look at it, then run: edgedistill build {file}
# Every key and default: edgedistill schema. What would run, and for how long: edgedistill plan {file}
name: {name}
version: 0.1.0
licence: {licence}  # SPDX id that the small model ships under; teacher and data have their say in it

task:
  kind: text_generation
{conversations}
  max_length: {max_length}  # tokens of a row; a longer document becomes several, a longer conversation is left out

teacher:
  kind: transformers{runs}
  model: {model}
  licence: {teacher_licence}
  # fit: {{epochs: 2, learning_rate: 2.0e-4}}  # where the teacher is weak at this, it learns from the data first

data:
  # {rows} rows; validation, calibration and test are cut from them by hash where no file is given
  train: {train}
  # test: {test}  # held-out rows of your own

student:
{student}
  # vocabulary: {{min_count: 1}}  # drop tokens that your text never uses; for a narrow domain

distill:
  batch_size: 8
  epochs: 3
  learning_rate: 5.0e-4
  losses:
    - {{loss: forward_kl, weight: 1.0, temperature: 1.0}}  # what the teacher says
    - {{loss: cross_entropy, weight: 1.0}}  # what the text says

quantize:
  - method: q4_k_m

export:
  - format: gguf  # needs edgedistill[gguf]

budget:  # a build that misses one of these exits with 3
  min_retained_quality: 0.9
"""


PRUNED = """\
  kind: pruned  # cut out of the teacher, by what is missed least on calibration text, which comes from train
  layers: {fewer}  # of {layers}
  intermediate_size: {neurons}  # of {all_neurons} neurons in each"""
THINNED = """\
  kind: layers  # of this teacher whole layers alone can go
  layers: {fewer}  # of {layers}, spread evenly; a list names them"""


@dataclass(frozen=True)
class TalkGlance:
    """What a file holds that a language model is to learn from."""

    file: Path
    rows: int
    source: Mapping[str, str | None]  # keys of data.train but for `file`
    conversations: bool

    @property
    def told(self) -> str:
        """What was found, in a few words."""
        what = "conversations" if self.conversations else f"texts in {self.source.get('text', 'each line')!r}"
        return f"{self.rows} rows, {what}"


def at_talk(file: Path) -> TalkGlance:
    """Read `file` once: conversations, or texts.

    Raises:
        DataError: it is of no kind that a recipe can name, cannot be read, or holds neither.
    """
    source = source_of(file)
    rows, strings, talks = _count(rows_of(file))
    by_lower = {name.lower(): name for name in reversed(strings)}
    prompt, answer = (_first(by_lower, names) for names in (PROMPT_NAMES, ANSWER_NAMES))
    if source == "jsonl" and (talks == rows or (prompt is not None and answer is not None)):
        keys = {} if talks == rows else {"prompt": prompt, "answer": answer}
        return TalkGlance(file, rows, {"source": "conversations", **keys}, conversations=True)
    if not strings:
        raise DataError(f"{file} has no column of texts and no conversations; give rows a text, or messages")
    text = _first(by_lower, TEXT_NAMES) or max(strings, key=strings.__getitem__)
    named = {} if source == "text" else {"text": text, "label": None}
    delimiter = delimiter_of(file)
    named |= {} if delimiter in (None, ",") else {"delimiter": delimiter}
    return TalkGlance(file, rows, {"source": source, **named}, conversations=False)


def _count(rows: Iterator[dict[str, Any]]) -> tuple[int, Counter[str], int]:
    """Return the number of rows, the characters in each column of strings, and how many rows have messages."""
    count, talks = 0, 0
    characters: Counter[str] = Counter()
    for row in rows:
        count += 1
        talks += isinstance(row.get("messages"), list)
        characters.update({name: len(value) for name, value in row.items() if isinstance(value, str)})
    return count, characters, talks


def _first(by_lower: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((by_lower[name] for name in names if name in by_lower), None)


def parts_of(talk: TalkGlance, model: TeacherGlance) -> dict[str, object]:
    """Return what the template says of this file and this teacher; the rest is as for every task."""
    neurons, layers = model.neurons or 0, model.layers or 0
    half = max(NEURONS_STEP, neurons // 2 // NEURONS_STEP * NEURONS_STEP)
    return {
        "conversations": "  conversations: true  # under the chat template; what the assistant says is learned"
        if talk.conversations
        else "  # conversations: true  # for rows of messages, or of a prompt and an answer",
        "max_length": min(MAX_LENGTH, model.max_length or MAX_LENGTH),
        "runs": "  # read as float32; kind: gguf runs the file in llama.cpp instead" if "file" in model.model else "",
        "rows": talk.rows,
        "student": (PRUNED if neurons else THINNED).format(
            fewer=max(1, 5 * layers // 9), layers=layers, neurons=min(half, neurons), all_neurons=neurons
        ),
    }
