import numpy as np
import pytest

from edgedistill.benchmark import latency
from edgedistill.benchmark.jobs import LatencyAnswer, Timing
from edgedistill.benchmark.noise import Counters
from edgedistill.benchmark.validity import answers_agree, disturbances_of, faults_of, reads_codes, reasons_of_place
from edgedistill.results import Noise, Subject
from edgedistill.targets._target import Target

SHA = "a" * 64
QUIET = Noise(cpu_pressure_percent=1.0, involuntary_switches_per_s=2.0, steal_percent=0.0, cpu_per_wall=0.99)


def rounds(logits: list[list[list[float]]], calls: int = 64) -> list[LatencyAnswer]:
    counted = Counters(1.0, 1.0, 0, 0.0, 0, 100)
    timing = Timing(5, [1000] * calls, [900] * calls, logits, noise=counted, pause_s=0.0)
    return [LatencyAnswer(0.1, 1, 2, "VmHWM", {"batch_1_short": timing}, {})]


def subject(**changes: object) -> Subject:
    sound = Subject(
        name="onnx.dynamic_int8",
        title="student, int8",
        role="artifact",
        runtime="onnxruntime",
        scheme="int8_dynamic",
        sha256=SHA,
        model_bytes=1,
        shipped_bytes=2,
        load_median_s=0.1,
        load_max_s=0.1,
        memory=latency.memory_of(rounds([])),
        workloads=(latency.workload_of("batch_1_short", 1, 0.0, rounds([])),),
        speedup={},
        speedup_model_only={},
        speedup_exported={},
        quality={},
        noise=QUIET,
        kernels={"DynamicQuantizeMatMul": 3, "Gather": 1},
        outputs_checked=True,
    )
    return sound.model_copy(update=changes)


def reasons_of_subject(said: Subject, sha256: str, threads: int) -> list[str]:
    return [*disturbances_of(said, threads), *faults_of(said, sha256)]


def test_a_quiet_checked_measurement_has_nothing_against_it() -> None:
    assert not list(reasons_of_subject(subject(), SHA, threads=1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"noise": QUIET.model_copy(update={"cpu_pressure_percent": 5.0})}, "waited for a CPU during 5.0 %"),
        ({"noise": QUIET.model_copy(update={"steal_percent": 2.5})}, "other guests took 2.5 %"),
        ({"noise": QUIET.model_copy(update={"cpu_per_wall": 0.9})}, "on a CPU 90 % of the timed calls"),
        (
            {"workloads": (latency.workload_of("batch_1_short", 1, 0.0, rounds([], 63)),)},
            "63 calls of batch_1_short cannot",
        ),
        ({"outputs_checked": False}, "gave other answers"),
        ({"kernels": {"MatMul": 3, "Gather": 1}}, "no integer kernel ran (MatMul, Gather)"),
        ({"sha256": "b" * 64}, "not the exported one (sha256 bbbbbbbbbbbb"),
    ],
)
def test_each_fault_is_one_sentence_that_names_the_model(changes: dict[str, object], reason: str) -> None:
    (told,) = reasons_of_subject(subject(**changes), SHA, threads=1)
    assert told.startswith("student, int8: ")
    assert reason in told


def test_what_is_wrong_is_told_apart_from_what_disturbs() -> None:
    wrong = subject(outputs_checked=False, kernels={"MatMul": 3})
    assert not list(disturbances_of(wrong, threads=1))
    assert len(list(faults_of(wrong, "b" * 64))) == 3


@pytest.mark.parametrize(
    ("rounds_ns", "odd"),
    [
        ((1000, 1000, 1000, 1000, 1000), 0),
        ((1000, 1000, 1000, 1000, 1900), 0),  # a median of five does not move for one
        ((1000, 1000, 1000, 1400, 700), 0),
        ((1000, 1000, 1000, 1600, 1600), 2),
        ((1000, 1000, 600, 1000, 1600), 2),
        ((1000, 1000, 1600), 1),
    ],
)
def test_rounds_that_disagree_are_told_unless_one_among_many_is_odd(rounds_ns: tuple[int, ...], odd: int) -> None:
    measured = []
    for value in rounds_ns:
        (answer,) = rounds([])
        answer.workloads["batch_1_short"].whole_ns[:] = [value] * 64
        measured.append(answer)
    found = list(
        disturbances_of(subject(workloads=(latency.workload_of("batch_1_short", 1, 0.0, measured),)), threads=1)
    )
    assert len(found) == bool(odd)
    assert all(f"{odd} of {len(rounds_ns)} rounds of batch_1_short were more than 1.5 times" in told for told in found)


def test_counters_that_the_system_lacks_speak_against_nothing() -> None:
    lacking = QUIET.model_copy(update={"cpu_pressure_percent": None, "steal_percent": None})
    assert not list(reasons_of_subject(subject(noise=lacking), SHA, threads=1))


@pytest.mark.parametrize(("share", "reasons"), [(0.49, 0), (0.4, 1)])
def test_of_several_threads_one_cpus_worth_of_work_is_asked(share: float, reasons: int) -> None:
    found = list(reasons_of_subject(subject(noise=QUIET.model_copy(update={"cpu_per_wall": share})), SHA, threads=2))
    assert len(found) == reasons


@pytest.mark.parametrize("scheme", ["float32", "float16"])
def test_a_float_model_needs_no_integer_kernel(scheme: str) -> None:
    assert not list(reasons_of_subject(subject(scheme=scheme, kernels={"MatMul": 3}), SHA, threads=1))


@pytest.mark.parametrize("scheme", ["int8_dynamic", "uint8_dynamic", "int8_static", "int4", "mixed"])
def test_a_model_of_codes_needs_one(scheme: str) -> None:
    assert list(reasons_of_subject(subject(scheme=scheme, kernels={"MatMul": 3, "Cast": 1}), SHA, threads=1))


@pytest.mark.parametrize(
    ("kernel", "integer"),
    [
        ("MatMulIntegerToFloat", True),
        ("DynamicQuantizeMatMul", True),
        ("GatherBlockQuantized", True),
        ("Gather[int8]", True),
        ("Gather", False),
        ("FusedMatMul", False),
    ],
)
def test_an_integer_kernel_is_known_by_its_name_or_by_what_it_reads(kernel: str, integer: bool) -> None:
    assert reads_codes(kernel) is integer


LOGITS = [np.array([[1.0, -20.0]], dtype=np.float32), np.array([[0.5, 0.25]], dtype=np.float32)]


def test_timed_answers_must_be_those_of_the_same_batches() -> None:
    expected = {"batch_1_short": LOGITS}
    assert answers_agree(rounds([[[1.0, -20.0]], [[0.5, 0.2501]]]), expected, tolerance=1e-4)
    assert not answers_agree(rounds([[[1.0, -20.0]], [[0.5, 0.26]]]), expected, tolerance=1e-4)
    assert not answers_agree(rounds([[[0.5, 0.25]], [[1.0, -20.0]]]), expected, tolerance=1e-4), "other order"
    assert not answers_agree(rounds([[[1.0, -20.0]]]), expected, tolerance=1e-4), "a batch is missing"
    assert not answers_agree(rounds([[[1.0, float("nan")]], [[0.5, 0.25]]]), expected, tolerance=1e-4)


HOST = Target("host", "x86_64", 2, None, ("onnxruntime",), frozenset({"avx2", "vnni"}), "local")


def test_the_host_stands_for_itself_and_not_for_a_lesser_processor() -> None:
    lesser = Target("old", "x86_64", 2, None, ("onnxruntime",), frozenset({"avx2"}), "local")
    assert not list(reasons_of_place(HOST, HOST, threads=2))
    (told,) = reasons_of_place(lesser, HOST, threads=1)
    assert "has vnni, which target old does not promise" in told


def test_more_threads_than_cpus_are_told() -> None:
    (told,) = reasons_of_place(HOST, HOST, threads=3)
    assert told.startswith("3 threads were asked for, and this process may use 2 CPUs")
