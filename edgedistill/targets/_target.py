"""Target: what a device has, as far as a build must know it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Target:
    """A device, in the facts that decide how a model is stored for it and where it can be measured."""

    name: str
    arch: str  # x86_64, aarch64, or what the machine calls itself
    threads: int
    memory_bytes: int | None  # None where the name covers devices of any size
    runtimes: tuple[str, ...]  # words of runtimes/
    cpu_features: frozenset[str]  # of: avx2, avx512, vnni, neon, dotprod
    runner: Literal["local"]

    @property
    def int8_dot(self) -> bool:
        """Whether products of 8-bit codes are summed in 32 bits at once.

        Where they are not, the AVX2 kernels add two products of unsigned and signed 8-bit codes in a saturating
        16-bit register, and weights must stay within 7 bits to be summed right.
        """
        return bool(self.cpu_features & {"vnni", "dotprod"})

    def lacking_on(self, host: "Target") -> str | None:
        """Return what `host` lacks to stand for this device, as words that follow its name; None if it can."""
        missing = sorted(self.cpu_features - host.cpu_features)
        if self.arch != host.arch:
            return f"is {host.arch}, not {self.arch}"
        return f"has no {', '.join(missing)}" if missing else None
