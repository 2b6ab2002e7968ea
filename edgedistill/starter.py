"""A first recipe for a teacher and a data file, with a comment on every choice."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from edgedistill import decoder_starter, yaml_text
from edgedistill.decoder_starter import TalkGlance, at_talk
from edgedistill.errors import DataError, RecipeError
from edgedistill.glance import DataGlance, TeacherGlance, at_data, at_teacher
from edgedistill.surroundings import listed

MOST_LABELS_LISTED = 30
MAX_LENGTH = 128
UNKNOWN_LICENCE = "LicenseRef-unknown"

Relation = Literal["same labels", "numbers", "other letters", "other labels", "no head"]
KEPT: tuple[Relation, ...] = ("same labels", "numbers")  # what lets the teacher's own head stay

TEMPLATE = """\
# {name}: a first recipe; look at it, then run: edgedistill build {file}
# Every key and default: edgedistill schema. What would run, and for how long: edgedistill plan {file}
name: {name}
version: 0.1.0
licence: {licence}  # SPDX id that the small model ships under; teacher and data have their say in it

task:
  kind: text_classification
{labels}
  max_length: {max_length}  # tokens; longer texts are cut

teacher:
  kind: transformers
  model: {model}
  licence: {teacher_licence}
{fit}

data:
  # {rows} rows; validation, calibration and test are cut from them by hash where no file is given
  train: {train}
{more_data}
  # challenge:  # other domains with the same labels; measured, never trained on
  #   my_domain: {{source: jsonl, file: my_domain.jsonl}}

student:
  kind: static  # a table of token vectors: by far the fastest
  # kind: layers  # some of the teacher's layers: slower, and closer to the teacher
  # layers: 2

distill:  # epochs, rates and batch size come from the kind of student
  losses:
    - {{loss: forward_kl, weight: {soft}, temperature: 2.0}}  # what the teacher says
{gold}

quantize:
  - method: dynamic_int8

export:
  - format: onnx

budget:  # a build that misses one of these exits with 3
  min_retained_quality: 0.9
"""


def write(teacher: str, data: Path, out: Path) -> str:
    """Write a recipe to `out`, and return one line on what it found.

    Raises:
        RecipeError: `out` exists.
        DataError: the data file cannot be used.
        ModelError: the teacher cannot be looked at.
    """
    if out.exists():
        raise RecipeError(f"{out} exists and is not overwritten; name another file with --out")
    model = at_teacher(teacher)
    if model.layers is not None:
        talk = at_talk(data)
        _put(out, _decoder_text(talk, model, out))
        return f"wrote {out}: {talk.told}; the teacher is a language model of {model.layers} layers"
    texts = at_data(data)
    if texts.label is None and model.labels is None:
        raise DataError(
            f"{data} has no column with two labels or more, and {teacher} has no head: nothing says what to learn; "
            "add labels"
        )
    _put(out, recipe_text(texts, model, out))
    labelled = f"{len(texts.labels)} labels in {texts.label!r}" if texts.label else "no labels"
    return f"wrote {out}: {texts.rows} rows, texts in {texts.text!r}, {labelled}; {_told(texts, model, out)}"


def _put(out: Path, text: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")


def _decoder_text(talk: TalkGlance, model: TeacherGlance, out: Path) -> str:
    train = {"source": talk.source["source"], "file": _relative(talk.file, out)}
    return decoder_starter.TEMPLATE.format(
        **_named(talk.file, model, out),
        **decoder_starter.parts_of(talk, model),
        train=_inline({**train, **talk.source}),
        test=_inline({**train, **talk.source, "file": "test.jsonl"}),
    )


def _named(data: Path, model: TeacherGlance, out: Path) -> dict[str, object]:
    """Return what every template says: names, licences, and where the teacher lies."""
    where = {key: _relative(Path(value), out) if key == "path" else value for key, value in model.model.items()}
    return {
        "name": re.sub(r"[^a-z0-9]+", "-", data.stem.lower()).strip("-") or "model",
        "file": out,
        "licence": _word(model.licence or UNKNOWN_LICENCE),
        "model": _inline(where),
        "teacher_licence": _word(model.licence or UNKNOWN_LICENCE),
    }


def recipe_text(texts: DataGlance, model: TeacherGlance, out: Path) -> str:
    """Return the recipe's YAML; file names count from the folder of `out`."""
    relation = _relation(texts, model)
    train = {"source": texts.source, "file": _relative(texts.file, out)}
    if texts.source != "text":
        train |= {"text": texts.text, "label": texts.label or ""}
    if texts.delimiter not in (None, ","):
        train["delimiter"] = texts.delimiter or ","
    return TEMPLATE.format(
        **_named(texts.file, model, out),
        labels=_labels_line(texts, model),
        max_length=min(MAX_LENGTH, model.max_length or MAX_LENGTH),
        fit=_FIT[relation].format(labels=listed(model.labels or ())) + ("" if relation in KEPT else _TO_FIT),
        rows=texts.rows,
        train=_inline(train),
        more_data=_OWN_TEST if texts.label else _NEEDED_TEST,
        soft=0.9 if texts.label else 1.0,
        gold=_GOLD if texts.label else "    # no gold labels to learn from",
    )


_FIT: dict[Relation, str] = {
    "same labels": "  # its head knows these labels; nothing is fitted",
    "numbers": "  # its head has as many labels as the data has numbers; nothing is fitted",
    "other letters": """\
  # Its head knows the data's labels in other letters: {labels}. To keep that head, write them so in the
  # data, delete this file, and run edgedistill init again; as it stands, a new head takes its place.
""",
    "other labels": "  # its head knows other labels: {labels}\n",
    "no head": "",
}
_TO_FIT = """\
  fit:  # train a head for these labels on the gold labels first
    method: full  # or head: only what follows the layers; faster, and weaker
    epochs: 3
    learning_rate: 5.0e-5"""
_OWN_TEST = "  # test: {source: jsonl, file: test.jsonl}  # held-out rows of your own"
_NEEDED_TEST = """\
  # No column looks like labels, so nothing can be measured yet: give labelled files for these two.
  # validation: {source: jsonl, file: validation.jsonl}
  # test: {source: jsonl, file: test.jsonl}"""
_GOLD = "    - {loss: cross_entropy, weight: 0.1}  # what the gold label says"


def _relation(texts: DataGlance, model: TeacherGlance) -> Relation:
    """Return how what the teacher's own head tells apart relates to what the data's labels name."""
    if model.labels is None:
        return "no head"
    given, known = set(texts.labels), set(model.labels)
    if texts.label is None or given == known:
        return "same labels"
    if given == {str(index) for index in range(len(model.labels))} and not given & known:
        return "numbers"
    same_letters = sorted(map(str.casefold, given)) == sorted(map(str.casefold, known))
    return "other letters" if same_letters else "other labels"


def _told(texts: DataGlance, model: TeacherGlance, out: Path) -> str:
    """Return what the teacher's head is worth for this data."""
    both = f"(data: {listed(texts.labels)}; teacher: {listed(model.labels or ())})"
    said: dict[Relation, str] = {
        "same labels": "the teacher has a head for these labels",
        "numbers": f"the teacher has a head for them; the numbers are read as indices of {listed(model.labels or ())}",
        "other letters": f"the teacher's head knows these labels in other letters {both}; to keep that head, write "
        f"them so in the data, delete {out} and run init again; as it stands, a new head is fitted first",
        "other labels": f"the teacher's head knows other labels {both}; a new head is fitted first",
        "no head": "the teacher has no head; one is fitted first",
    }
    return said[_relation(texts, model)]


def _labels_line(texts: DataGlance, model: TeacherGlance) -> str:
    relation = _relation(texts, model)
    labels = (model.labels if relation in KEPT else texts.labels) or ()
    indices = "; the data's numbers are read as indices" if relation == "numbers" else ""
    if len(labels) <= MOST_LABELS_LISTED:
        return f"  labels: [{', '.join(map(_word, labels))}]  # in the order of the model's outputs{indices}"
    return f"  # labels: taken from {'the teacher' if relation in KEPT else 'the data, sorted'}{indices}"


def _relative(file: Path, out: Path) -> str:
    return Path(os.path.relpath(file.resolve(), out.parent.resolve())).as_posix()


def _inline(values: Mapping[str, str | None]) -> str:
    return "{" + ", ".join(f"{key}: {_word(value) if value else 'null'}" for key, value in values.items()) + "}"


def _word(text: str) -> str:
    """Return `text` as YAML, in quotes only where they are needed inside brackets."""
    plain = re.fullmatch(r"[\w./@+-]+", text) is not None and yaml_text.read(text).value == text
    return text if plain else yaml_text.quoted(text)
