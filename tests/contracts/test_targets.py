"""What every target must keep, however many are added."""

import dataclasses
import platform

import pytest

from edgedistill import registry
from edgedistill.targets import _cpu
from edgedistill.targets._target import Target

TARGETS = "edgedistill.targets"
FEATURES = {"x86_64": {"avx2", "avx512", "vnni"}, "aarch64": {"neon", "dotprod"}}


def faults(name: str, target: Target) -> list[str]:
    """Return what is wrong with a target."""
    found = []
    if target.name != name:
        found.append("the file's name is the recipe's word")
    if not target.cpu_features <= FEATURES.get(target.arch, set()):
        found.append("the features are not this architecture's, or not words that a kernel is chosen by")
    if not set(target.runtimes) <= set(registry.names("edgedistill.runtimes")) or not target.runtimes:
        found.append("a target runs something, and only what there is a file for")
    if target.threads < 1 or (target.memory_bytes is not None and target.memory_bytes < 2**20):
        found.append("no such machine")
    if target.int8_dot != bool(target.cpu_features & {"vnni", "dotprod"}):
        found.append("int8_dot says whether 8-bit products are summed in 32 bits")
    return found


@pytest.mark.parametrize("name", registry.names(TARGETS))
def test_every_target_keeps_the_contract(name: str) -> None:
    module = registry.load(TARGETS, name)
    target = module.target()
    assert not faults(name, target)
    assert target == module.target(), "data, not a measurement"
    assert module.__doc__
    with pytest.raises(dataclasses.FrozenInstanceError):
        target.threads = 99


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"cpu_features": frozenset({"neon"})},
        {"cpu_features": frozenset({"avx3"})},
        {"runtimes": ()},
        {"runtimes": ("no_such_runtime",)},
        {"threads": 0},
    ],
)
def test_the_contract_rejects_a_broken_target(change: dict[str, object]) -> None:
    sound = registry.load(TARGETS, "x86_64_avx2").target()
    assert len(faults("x86_64_avx2", dataclasses.replace(sound, **change))) == 1


def test_a_name_that_ends_in_a_dot_product_has_one() -> None:
    assert registry.load(TARGETS, "x86_64_vnni").target().int8_dot
    assert registry.load(TARGETS, "arm64_dotprod").target().int8_dot
    assert not registry.load(TARGETS, "x86_64_avx2").target().int8_dot
    assert not registry.load(TARGETS, "arm64").target().int8_dot


X86 = "processor: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse2 avx2 avx512f {}\nprocessor: 1\nflags\t\t: avx2 {}\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm {}\nCPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5\n"


@pytest.mark.parametrize(
    ("cpuinfo", "features"),
    [
        (X86.format("avx512_vnni", "avx512f avx512_vnni"), {"avx2", "avx512", "vnni"}),
        (X86.format("avx512_vnni", "avx512f"), {"avx2", "avx512"}),
        (X86.format("avx_vnni", "avx_vnni"), {"avx2", "vnni"}),
        (ARM.format("asimddp"), {"neon", "dotprod"}),
        (ARM.format("asimdhp"), {"neon"}),
        ("", set()),
    ],
)
def test_linux_features_are_those_that_every_core_has(cpuinfo: str, features: set[str]) -> None:
    assert _cpu.linux_features(cpuinfo) == features


def test_a_processor_has_a_name() -> None:
    assert _cpu.linux_name(X86) == "AMD EPYC"
    assert _cpu.linux_name(ARM) == "Raspberry Pi 5"
    assert _cpu.name()


def test_other_names_of_an_architecture_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, expected in (("AMD64", "x86_64"), ("arm64", "aarch64"), ("x86_64", "x86_64"), ("riscv64", "riscv64")):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        assert _cpu.architecture() == expected
