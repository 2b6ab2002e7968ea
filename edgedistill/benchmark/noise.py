"""What else the machine did while something was timed: counters of the operating system, read before and after.

Nothing is read in between. A counter that the system lacks is None.
"""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

PRESSURE = Path("/proc/pressure/cpu")
STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Counters:
    """Totals since some start; only differences mean anything."""

    wall_s: float
    cpu_s: float  # of this process, all threads
    involuntary_switches: float  # of this process
    pressure_s: float | None  # of the machine: time in which some task waited for a CPU
    steal_ticks: float | None  # of the machine: taken by other guests of the same hypervisor
    all_ticks: float | None

    def since(self, before: "Counters") -> "Counters":
        """Return what was counted from `before` until now."""
        return Counters(
            wall_s=self.wall_s - before.wall_s,
            cpu_s=self.cpu_s - before.cpu_s,
            involuntary_switches=self.involuntary_switches - before.involuntary_switches,
            pressure_s=_minus(self.pressure_s, before.pressure_s),
            steal_ticks=_minus(self.steal_ticks, before.steal_ticks),
            all_ticks=_minus(self.all_ticks, before.all_ticks),
        )


def _minus(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before


def read() -> Counters:
    """Return the counters as they stand now."""
    pressure_s = pressure_of(PRESSURE.read_text(encoding="ascii")) if PRESSURE.exists() else None
    steal, ticks = ticks_of(STAT.read_text(encoding="ascii")) if STAT.exists() else (None, None)
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    return Counters(time.perf_counter(), time.process_time(), switches, pressure_s, steal, ticks)


def pressure_of(text: str) -> float | None:
    """Return the seconds in the `some` line of /proc/pressure/cpu, which counts microseconds."""
    for line in text.splitlines():
        if line.startswith("some "):
            return int(line.rpartition("total=")[2]) * 1e-6
    return None


def ticks_of(text: str) -> tuple[int, int]:
    """Return stolen ticks and all ticks of the first line of /proc/stat; guest time stands in user time already."""
    ticks = [int(word) for word in text.split("\n", 1)[0].split()[1:9]]
    return ticks[7], sum(ticks)
