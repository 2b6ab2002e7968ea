import numpy as np
import pytest

from edgedistill.benchmark.workloads import choose

LENGTHS = np.random.default_rng(0).integers(3, 128, size=1000)


def test_short_and_long_texts_come_from_their_bands() -> None:
    for workload in choose(LENGTHS):
        low, high = (90, 99) if workload.name.endswith("long") else (25, 50)
        lengths = LENGTHS[[row for rows in workload.batches for row in rows]]
        assert np.percentile(LENGTHS, low) - 1 <= lengths.min()
        assert lengths.max() <= np.percentile(LENGTHS, high) + 1


def test_every_workload_has_32_different_texts_in_full_batches() -> None:
    found = choose(LENGTHS)
    names = ["batch_1_short", "batch_1_spaced", "batch_1_long", "batch_8_short", "batch_8_long"]
    assert [workload.name for workload in found] == names
    assert {workload.name for workload in found if workload.pause_s} == {"batch_1_spaced"}
    assert found[0].batches == found[1].batches
    for workload in found:
        rows = [row for rows in workload.batches for row in rows]
        assert len(rows) == len(set(rows)) == 32
        assert {len(rows) for rows in workload.batches} == {workload.batch}


def test_batches_of_one_and_of_eight_hold_the_same_texts_and_are_alike_in_length() -> None:
    one, _, _, eight, _ = choose(LENGTHS)
    assert {row for rows in one.batches for row in rows} == {row for rows in eight.batches for row in rows}
    means = [LENGTHS[list(rows)].mean() for rows in eight.batches]
    assert max(means) - min(means) < 0.25 * np.ptp(LENGTHS[[row for rows in eight.batches for row in rows]])


def test_the_choice_depends_on_the_lengths_alone() -> None:
    assert choose(LENGTHS) == choose(LENGTHS.copy())
    assert choose(LENGTHS) != choose(LENGTHS[::-1])


@pytest.mark.parametrize("rows", [1, 2, 7, 9, 40])
def test_a_small_split_still_fills_its_batches(rows: int) -> None:
    for workload in choose(np.arange(rows) + 3):
        assert workload.batches
        assert all(len(batch) == workload.batch for batch in workload.batches)
        assert all(0 <= row < rows for batch in workload.batches for row in batch)
