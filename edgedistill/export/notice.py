"""NOTICE and licence texts of an artifact: under what it is shipped, and what it was made from."""

import shutil
from pathlib import Path

from edgedistill.student_values import Tokens
from edgedistill.values import Teacher


def write_notice(root: Path, teacher: Teacher, licence: str, tokens: Tokens | None = None) -> None:
    """Write NOTICE, and copy the licence texts that came with the teacher and with the student's own checkpoint."""
    notice = (
        f"This model is distributed under {licence}.\n\n"
        f"It was distilled from: {teacher.source}\n"
        f"which is under: {teacher.licence}\n"
        f"SHA-256 of its weights: {teacher.source_weights_sha256}\n"
    )
    texts = {"teacher": teacher.path(teacher.checkpoint)}
    if tokens is not None and tokens.start is not None:
        notice += (
            f"\nIts training started from: {tokens.start.source}\n"
            f"which is under: {tokens.start.licence}\n"
            f"SHA-256 of its weights: {tokens.start.weights_sha256}\n"
        )
        texts["start"] = tokens.path(tokens.start.checkpoint)
    (root / "NOTICE").write_text(notice, encoding="utf-8")
    for whose, folder in texts.items():
        for file in sorted([*folder.glob("LICEN[SC]E*"), *folder.glob("NOTICE*")]):
            shutil.copyfile(file, root / f"{whose}-{file.name}")
