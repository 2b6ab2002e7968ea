"""Peak memory of this very process.

VmHWM is read from Linux itself, as ru_maxrss starts at the parent's size after a fork: a small child of a large
parent would seem large.
"""

import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak() -> tuple[int, str]:
    """Return the high-water mark of resident memory in bytes, and what it was read from."""
    if STATUS.exists():
        return high_water_mark_bytes(STATUS.read_text(encoding="ascii", errors="replace")), "VmHWM"
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "ru_maxrss"


def high_water_mark_bytes(status: str) -> int:
    """Return VmHWM of the text of /proc/self/status, whose unit is always kB of 1024 bytes."""
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
