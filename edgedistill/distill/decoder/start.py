"""What a student starts from beside its teacher: a checkpoint of its own, or the importance of the teacher's parts.

A checkpoint of its own is proven to read as the teacher does; importance is measured on the calibration split. It is
settled once, for the student, its controls and all seeds. Whatever the student's sizes, the same is measured. Where the
teacher is a GGUF file, and the student is to be cut out of it, its weights are written as floats here.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from accelerate import Accelerator

from edgedistill import registry
from edgedistill.corpus.read import texts_of
from edgedistill.decoder_values import DecoderStart, DecoderTokens, Unpacked
from edgedistill.distill.decoder.unpacked import calibration_rows, weights_of, written
from edgedistill.errors import ModelError
from edgedistill.files import sha256_of_tree
from edgedistill.models.activation_importance import measure
from edgedistill.models.config_json import longest_input, read_config
from edgedistill.models.decoder import load_decoder
from edgedistill.models.layer_choice import LayerChoice, choose
from edgedistill.models.load import load_reader, load_tokenizer
from edgedistill.models.resolve import copy_checkpoint, describe, resolve
from edgedistill.models.student import own_checkpoint
from edgedistill.models.students.pruned import IMPORTANCE, LAYERS
from edgedistill.section import StudentOptions
from edgedistill.student_values import OwnStart
from edgedistill.training.decoder_rows import DecoderRows, rendered
from edgedistill.training.following import LOSSES, Following
from edgedistill.values import Corpus, Teacher

COMPARED = 1000  # texts of each split
ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Measured:
    """What was measured of the teacher; fields as `DecoderStart` has them."""

    importance: Mapping[str, str] = field(default_factory=dict)
    tokens: int = 0
    layers: tuple[int, ...] = ()
    layer_losses: tuple[float, ...] = ()


def begin(
    options: StudentOptions, *, task: Any, teacher: Teacher, unpacks: bool = False, corpus: Corpus, base: Path,
    folder: Path,
) -> DecoderStart:  # fmt: skip
    """Return what the student starts from.

    Args:
        task: its options.
        unpacks: the student needs the teacher's weights as floats, and they are none.
        base: the folder that relative paths start from.
        folder: of this stage; a checkpoint of the student's own goes to `own/`, importance to `importance/`, the
            weights of a GGUF file to `unpacked/`.

    Raises:
        ModelError: the student's own checkpoint cannot be used, or reads texts as other tokens than the teacher; or a
            GGUF file says something else in llama.cpp than its weights do in PyTorch.
        DataError: the calibration split has no rows to measure importance on.
    """
    progress, started = folder / "progress", time.monotonic()
    progress.mkdir(exist_ok=True)
    own, compared, measured = None, 0, Measured()
    unpacked = written(teacher, task, corpus, folder) if unpacks else None
    if own_checkpoint(options) is not None:
        own, compared = _own(options, task, teacher, corpus, base, folder)
    elif options.CALIBRATED:
        measured = _measured(options, task, teacher, corpus, folder, unpacked)
    return DecoderStart(
        start=own,
        compared_texts=compared,
        importance=dict(measured.importance),
        calibration_tokens=measured.tokens,
        layers=measured.layers,
        layer_losses=measured.layer_losses,
        seconds=time.monotonic() - started,
        unpacked=unpacked,
    )


def beginning(
    start: DecoderStart | None, teacher: Teacher, checkpoint: PurePosixPath, progress: Path,
    tokens: DecoderTokens | None = None,
) -> tuple[Path, Path]:  # fmt: skip
    """Return the checkpoint that a student is made from, and the folder where what was measured of it lies.

    Args:
        start: None where the student needs nothing but the teacher's checkpoint.
        checkpoint: of the teacher.
        progress: where work is kept that is not finished; what is returned where nothing was measured.
        tokens: those that the student keeps, with all checkpoints cut down to them, under the same names; None where
            every token is kept.
    """
    source = teacher if tokens is None else tokens
    if start is None:
        return source.path(checkpoint), progress
    if start.start is not None:
        own = start.path(start.start.checkpoint) if tokens is None else tokens.path(start.start.checkpoint)
        return own, progress
    measured = start.path(start.importance[str(checkpoint)]) if start.importance else progress
    return source.path(checkpoint) if tokens is not None else weights_of(teacher, start, checkpoint), measured


def _measured(
    options: Any, task: Any, teacher: Teacher, corpus: Corpus, folder: Path, unpacked: Unpacked | None
) -> Measured:  # fmt: skip
    """Measure the teacher's parts; where it was fitted, those of what it was before too: the control starts there."""
    rows = calibration_rows(task, teacher, corpus, folder, options.calibration_tokens)
    device, importance = Accelerator().device, {}
    choice = LayerChoice((), (), ())
    for checkpoint in filter(None, (teacher.checkpoint, teacher.base)):
        place = folder / "importance" / str(checkpoint)
        place.mkdir(parents=True, exist_ok=True)
        weights = teacher.path(checkpoint) if unpacked is None else folder / unpacked.checkpoint
        decoder = load_decoder(weights).to(device)
        measure(decoder, rows.tokens).save(place / IMPORTANCE)
        importance[str(checkpoint)] = f"importance/{checkpoint}"
        if options.searched is not None:
            few = calibration_rows(task, teacher, corpus, folder, options.search_tokens, "search_")
            chosen = choose(decoder, _loss_of(decoder, few), options.searched, place / LAYERS)
            choice = chosen if checkpoint == teacher.checkpoint else choice
    return Measured(importance, len(rows.tokens.ids), choice.layers, choice.losses)


def _loss_of(decoder: Any, rows: DecoderRows) -> Callable[[], float]:
    """Return what computes the mean loss in nats of a decoder, as it stands then, on what counts in these rows."""
    gold = registry.load(LOSSES, "cross_entropy").Options(loss="cross_entropy")
    following = Following((gold,), rows, rows, None, decoder.vocab_size)
    return lambda: following.validate(decoder)[0]


def _own(
    options: Any, task: Any, teacher: Teacher, corpus: Corpus, base: Path, folder: Path
) -> tuple[OwnStart, int]:  # fmt: skip
    """Fetch the student's own checkpoint, and prove that it reads as the teacher does."""
    source = resolve(options.model, base, folder / "progress")
    taught_by = teacher.path(teacher.checkpoint)
    config, theirs = read_config(source), load_tokenizer(taught_by)
    longest = longest_input(config)
    if longest is not None and task.max_length > longest:
        raise ModelError(
            f"task.max_length: {task.max_length} tokens are more than the {longest} that the student has positions "
            f"for; write {longest} or less"
        )
    texts = (text for split in corpus.splits for text in islice(texts_of(corpus, split), COMPARED))
    spoken = (rendered(theirs, text) for text in texts) if task.conversations else texts
    compared = prove_same_ids(load_reader(source), theirs, spoken, framed=not task.conversations)
    place = folder / "own"
    copy_checkpoint(source, place)
    _say_ends(place, taught_by)
    load_decoder(place)  # which tells now what could not be loaded later
    return (
        OwnStart(
            checkpoint="own",
            source=describe(options.model),
            licence=options.licence,
            weights_sha256=sha256_of_tree(source, list(source.glob("*.safetensors"))),
        ),
        compared,
    )


def prove_same_ids(own: Any, theirs: Any, texts: Iterable[str], *, framed: bool) -> int:
    """Return how many texts the student's tokenizer reads as the teacher's does, which is all of them.

    Every loss compares what both models say of the same token, so the two vocabularies must be one: the same ids for
    the same tokens, and the same tokens for the same text.

    Args:
        own: the student's tokenizer.
        theirs: the teacher's.
        texts: of the corpus.
        framed: whether they are read with what a tokenizer puts around a text.

    Raises:
        ModelError: a token or a text differs; the message has the first one, and what to do.
    """
    mine, wanted = own.get_vocab(), theirs.get_vocab()
    unlike = sorted(token for token in mine.keys() | wanted.keys() if mine.get(token) != wanted.get(token))
    if unlike:
        ids = tuple(vocabulary.get(unlike[0], "none") for vocabulary in (mine, wanted))
        raise ModelError(
            f"student.model: has another vocabulary than the teacher: {len(unlike)} tokens differ, such as "
            f"{unlike[0]!r}, id {ids[0]} and not {ids[1]}; {CURE}"
        )
    compared = 0
    for text in texts:
        read, expected = (one(text, add_special_tokens=framed, verbose=False)["input_ids"] for one in (own, theirs))
        if read != expected:
            raise ModelError(
                f"student.model: its tokenizer reads {text[:60]!r} as {read[:12]}, and the teacher's as "
                f"{expected[:12]}; {CURE}"
            )
        compared += 1
    return compared


CURE = (
    "a language model is taught token by token: name a checkpoint with the teacher's tokenizer, such as a smaller "
    "one of its family, or choose student.kind: pruned or layers"
)


def _say_ends(checkpoint: Path, taught_by: Path) -> None:
    """Write the teacher's special ids into a copy of the student's checkpoint: its texts end as the teacher's do."""
    for name in ("config.json", "generation_config.json"):
        said = _read(taught_by / name)
        ends = {key: said[key] for key in ENDS if key in said}
        if ends:
            whole = _read(checkpoint / name) | ends
            (checkpoint / name).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def _read(file: Path) -> dict[str, Any]:
    found: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return dict(found)
