import subprocess
import sys

import numpy as np
import pytest

from edgedistill.benchmark import latency, memory, noise
from edgedistill.benchmark.jobs import LatencyAnswer, Timing
from edgedistill.benchmark.noise import Counters
from edgedistill.statistics import percentile_interval

QUIET = Counters(wall_s=2.0, cpu_s=2.0, involuntary_switches=1, pressure_s=0.0, steal_ticks=0, all_ticks=400)


def answer(whole_ns: list[int], peak_bytes: int = 100, counted: Counters = QUIET) -> LatencyAnswer:
    timing = Timing(7.5, whole_ns, [n // 2 for n in whole_ns], [[[0.0]]], noise=counted, pause_s=0.0)
    return LatencyAnswer(0.1, 50, peak_bytes, "VmHWM", {"batch_8_short": timing}, {})


@pytest.mark.parametrize(("calls", "percentiles"), [(63, 0), (64, 1), (129, 1), (130, 2), (661, 2), (662, 3)])
def test_a_percentile_that_the_sample_cannot_carry_stays_empty(calls: int, percentiles: int) -> None:
    found = latency.latency_of([np.random.default_rng(0).integers(1000, 9000, size=calls)])
    given = [found.p90_s, found.p95_s, found.p99_s]
    assert [value is not None for value in given] == [place < percentiles for place in range(3)]
    assert (found.p90_low_s is None) == (found.p90_s is None) == (found.p90_high_s is None)
    if found.p90_s is not None:
        assert found.min_s <= found.p50_s <= found.p90_low_s <= found.p90_s <= found.p90_high_s


def test_latency_pools_rounds_and_keeps_seconds() -> None:
    found = latency.workload_of("batch_8_short", 8, 0.0, [answer([1000, 3000]), answer([2000, 6000])])
    assert found.latency.count == 4
    assert found.latency.p50_s == pytest.approx(2.5e-6)
    assert found.model_only.p50_s == pytest.approx(1.25e-6)
    assert found.items_per_s == pytest.approx(8 / 3e-6)
    assert found.samples_s == pytest.approx((1e-6, 2e-6, 3e-6, 6e-6))
    assert found.tokens == 8


def test_many_samples_are_thinned_evenly_with_both_ends_kept() -> None:
    samples = latency.workload_of("batch_8_short", 8, 0.0, [answer(list(range(1, 10_001)))]).samples_s
    assert len(samples) == 500
    assert (samples[0], samples[-1]) == pytest.approx((1e-9, 1e-5))
    assert list(samples) == sorted(samples)


def test_a_ratio_is_of_the_same_round_so_a_machine_that_slows_down_does_not_move_it() -> None:
    teacher = [answer([100 * slow]) for slow in (1, 2, 10)]
    subject = [answer([10 * slow]) for slow in (1, 2, 10)]
    ratio = latency.speedups(teacher, subject, lambda timing: timing.whole_ns)["batch_8_short"]
    assert (ratio.median, ratio.low, ratio.high) == (10, 10, 10)
    shuffled = latency.speedups(teacher, subject[::-1], lambda timing: timing.whole_ns)["batch_8_short"]
    assert shuffled.low < 10 < shuffled.high, "rounds that are not paired give another ratio"


def test_memory_is_the_median_and_the_worst_of_the_processes() -> None:
    found = latency.memory_of([answer([1], peak_bytes=peak) for peak in (100, 300, 110)])
    assert (found.peak_median_bytes, found.peak_max_bytes, found.imported_median_bytes) == (110, 300, 50)


def test_noise_adds_up_over_rounds_and_is_a_share_of_time() -> None:
    loud = Counters(wall_s=2.0, cpu_s=1.0, involuntary_switches=7, pressure_s=1.0, steal_ticks=40, all_ticks=400)
    found = latency.noise_of([answer([1]), answer([1], counted=loud)], threads=1)
    assert found.cpu_pressure_percent == pytest.approx(25)
    assert found.involuntary_switches_per_s == pytest.approx(2)
    assert found.steal_percent == pytest.approx(5)
    assert found.cpu_per_wall == pytest.approx(0.75)
    assert latency.noise_of([answer([1])], threads=2).cpu_per_wall == pytest.approx(0.5)


def test_a_counter_that_the_system_lacks_is_none_and_not_zero() -> None:
    lacking = Counters(wall_s=2.0, cpu_s=2.0, involuntary_switches=1, pressure_s=None, steal_ticks=None, all_ticks=None)
    found = latency.noise_of([answer([1]), answer([1], counted=lacking)], threads=1)
    assert (found.cpu_pressure_percent, found.steal_percent) == (None, None)
    assert lacking.since(QUIET).pressure_s is None


def test_counters_grow_while_a_process_works() -> None:
    before = noise.read()
    while noise.read().wall_s - before.wall_s < 0.05:
        pass
    counted = noise.read().since(before)
    assert 0.05 <= counted.wall_s < 5
    assert 0 < counted.cpu_s <= counted.wall_s * 1.05


def test_proc_files_are_read_by_their_documented_units() -> None:
    pressure = "some avg10=1.92 avg60=0.69 avg300=0.74 total=15984628\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    assert noise.pressure_of(pressure) == pytest.approx(15.984628)
    assert noise.ticks_of("cpu  11100 0 3983 160957 469 0 86 135 5 2\ncpu0 1 2 3\n") == (135, 176730)
    status = "Name:\tpython\nVmPeak:\t  9999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n"
    assert memory.high_water_mark_bytes(status) == 2048 * 1024


PEAKS = """
import numpy as np
from edgedistill.benchmark import memory
before, source = memory.peak()
held = np.ones(30_000_000, dtype=np.uint8)
during, _ = memory.peak()
del held
print(source, before, during, memory.peak()[0])
"""


def test_the_peak_of_a_process_grows_with_what_it_holds_and_does_not_fall() -> None:
    told = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True).stdout.split()
    before, during, after = (int(number) for number in told[1:])
    inexact = 2_000_000  # Linux counts pages per CPU, and adds them up only now and then
    assert told[0] in ("VmHWM", "ru_maxrss")
    assert before > 10_000_000
    assert abs(during - before - 30_000_000) <= inexact
    assert after >= during - inexact


def test_the_interval_of_the_p90_holds_what_each_round_gives_by_itself() -> None:
    random = np.random.default_rng(0)
    rounds_ns = [random.normal(scale, scale / 100, size=400).astype(np.int64) for scale in (1e6, 1.1e6, 1.6e6)]
    found = latency.latency_of(rounds_ns)
    own = [np.percentile(samples_ns, 90) * 1e-9 for samples_ns in rounds_ns]
    pooled = percentile_interval(np.concatenate(rounds_ns) * 1e-9, 90)
    assert found.p90_low_s is not None
    assert found.p90_high_s is not None
    assert found.p90_low_s <= min(own) <= max(own) <= found.p90_high_s
    assert not pooled[0] <= min(own)  # the twin: calls of all rounds as if they were independent


def test_idle_time_before_calls_is_no_noise() -> None:
    idle = answer([1000] * 64, counted=Counters(10.0, 0.1, 0, 9.0, 0, 100))
    spaced = Timing(**{**vars(idle.workloads["batch_8_short"]), "pause_s": 0.02})
    both = LatencyAnswer(0.1, 50, 100, "VmHWM", {**answer([1000] * 64).workloads, "spaced": spaced}, {})
    assert latency.noise_of([both], threads=1) == latency.noise_of([answer([1000] * 64)], threads=1)
