"""NOTICE and licence texts of an artifact: under what it is shipped, and what it was made from."""

import shutil
from pathlib import Path

from edgedistill.decoder_values import DecoderStart
from edgedistill.student_values import Tokens
from edgedistill.values import Teacher


def write_notice(root: Path, teacher: Teacher, licence: str, begun: Tokens | DecoderStart | None = None) -> None:
    """Write NOTICE, and copy the licence texts that came with the teacher and with the student's own checkpoint."""
    notice = (
        f"This model is distributed under {licence}.\n\n"
        f"It was distilled from: {teacher.source}\n"
        f"which is under: {teacher.licence}\n"
        f"SHA-256 of its weights: {teacher.source_weights_sha256}\n"
    )
    texts = {"teacher": teacher.path(teacher.checkpoint)}
    if begun is not None and begun.start is not None:
        notice += (
            f"\nIts training started from: {begun.start.source}\n"
            f"which is under: {begun.start.licence}\n"
            f"SHA-256 of its weights: {begun.start.weights_sha256}\n"
        )
        texts["start"] = begun.path(begun.start.checkpoint)
    (root / "NOTICE").write_text(notice, encoding="utf-8")
    for whose, folder in texts.items():
        for file in sorted([*folder.glob("LICEN[SC]E*"), *folder.glob("NOTICE*")]):
            shutil.copyfile(file, root / f"{whose}-{file.name}")
