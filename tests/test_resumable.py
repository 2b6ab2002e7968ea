from pathlib import Path

import numpy as np
import pytest

from edgedistill.resumable import BATCHES_BETWEEN_MARKS, resumable

BATCHES = [np.arange(i, i + 3) for i in range(0, 300, 3)]


def squares(rows: np.ndarray) -> np.ndarray:
    return np.stack([rows, rows**2], axis=1).astype(np.float32)


class Stopped(Exception):
    pass


def stopping_after(count: int, asked: list[int]):  # noqa: ANN201
    def compute(rows: np.ndarray) -> np.ndarray:
        if len(asked) == count:
            raise Stopped
        asked.append(int(rows[0]))
        return squares(rows)

    return compute


def test_every_row_is_computed(tmp_path: Path) -> None:
    values = resumable(tmp_path / "a.npy", (300, 2), BATCHES, squares, tmp_path, "squares", "rows")
    assert (values == squares(np.arange(300))).all()


@pytest.mark.parametrize("stop", [1, BATCHES_BETWEEN_MARKS, 70])
def test_a_stopped_computation_goes_on_at_its_last_mark_and_ends_alike(stop: int, tmp_path: Path) -> None:
    asked: list[int] = []
    with pytest.raises(Stopped):
        resumable(tmp_path / "a.npy", (300, 2), BATCHES, stopping_after(stop, asked), tmp_path, "squares", "rows")
    asked.clear()
    resumable(tmp_path / "a.npy", (300, 2), BATCHES, stopping_after(1000, asked), tmp_path, "squares", "rows")
    lost = stop % BATCHES_BETWEEN_MARKS
    assert len(asked) == len(BATCHES) - stop + lost, "only what followed the last mark is computed again"
    resumable(tmp_path / "b.npy", (300, 2), BATCHES, squares, tmp_path, "squares", "rows")
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_a_finished_computation_asks_for_nothing(tmp_path: Path) -> None:
    asked: list[int] = []
    for _ in range(2):
        asked.clear()
        resumable(tmp_path / "a.npy", (300, 2), BATCHES, stopping_after(1000, asked), tmp_path, "squares", "rows")
    assert not asked


def test_a_mark_without_its_file_is_not_believed(tmp_path: Path) -> None:
    resumable(tmp_path / "a.npy", (300, 2), BATCHES, squares, tmp_path, "squares", "rows")
    (tmp_path / "a.npy").unlink()
    values = resumable(tmp_path / "a.npy", (300, 2), BATCHES, squares, tmp_path, "squares", "rows")
    assert (values == squares(np.arange(300))).all()
