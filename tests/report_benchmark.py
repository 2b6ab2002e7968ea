"""Made-up benchmarks for the report's tests: plausible by default; every part can be replaced."""

import hashlib

import numpy as np

from edgedistill.results import (
    BenchmarkResult,
    Comparison,
    Environment,
    Latency,
    Memory,
    Noise,
    Ratio,
    SplitQuality,
    Step,
    Subject,
    Validity,
    WorkloadResult,
)
from edgedistill.values import Metric

NASTY = "<script>alert(\"x\")</script> & 'q' | `t` $a_b$"
WORKLOADS = ("batch_1_short", "batch_1_spaced", "batch_1_long", "batch_8_short", "batch_8_long")
TEACHER_P50_S, EXPORTED_TEACHER_P50_S, FLOAT_STUDENT_P50_S = 0.0112, 0.0071, 0.000151
CHALLENGES = ("challenge.amazon", "challenge.news", "challenge.tweets")
MANY = tuple(f"challenge.reviews_of_household_appliances_written_in_{year}" for year in range(2010, 2022))


def digest(seed: int) -> str:
    """Return 64 hex digits."""
    return hashlib.sha256(str(seed).encode()).hexdigest()


def metric(value: float, half: float = 0.012, n: int = 1000) -> Metric:
    """Return a metric whose interval reaches `half` to each side."""
    return Metric(value=value, low=value - half, high=value + half, n=n)


def latency(p50_s: float, count: int = 400) -> Latency:
    """Return a latency with the percentiles that `count` calls carry."""
    enough = count >= 64
    return Latency(
        count=count,
        min_s=p50_s * 0.9,
        p50_s=p50_s,
        p90_s=p50_s * 1.2 if enough else None,
        p95_s=p50_s * 1.3 if count >= 130 else None,
        p99_s=p50_s * 1.7 if count >= 662 else None,
        p90_low_s=p50_s * 1.15 if enough else None,
        p90_high_s=p50_s * 1.3 if enough else None,
    )


def slow_after_idling(p50_s: float) -> float:
    """Return how many times longer a call takes after idle time: the shorter the call, the more it loses."""
    return 3.0 if p50_s < 0.001 else 1.2


def workloads(p50_s: float, count: int = 400) -> tuple[WorkloadResult, ...]:
    """Return every workload of a subject whose short text takes `p50_s`."""
    rng = np.random.default_rng(7)
    return tuple(
        WorkloadResult(
            workload=name,
            pause_s=0.02 if "spaced" in name else 0.0,
            batch=8 if "8" in name else 1,
            tokens=120 if "long" in name else 24,
            latency=latency(p50_s * factor, count),
            model_only=latency(p50_s * factor * 0.8, count),
            items_per_s=(8 if "8" in name else 1) / (p50_s * factor),
            round_p50_s=tuple(p50_s * factor * round_factor for round_factor in (1.0, 0.98, 1.01, 1.0, 0.99)),
            samples_s=tuple(sorted((p50_s * factor * rng.lognormal(0.02, 0.09, 200)).tolist())),
        )
        for name, factor in zip(WORKLOADS, (1.0, slow_after_idling(p50_s), 4.0, 6.0, 26.0), strict=True)
    )


def with_slow_round(one: Subject) -> Subject:
    """Return the subject with a last round in which every call took 1.4 times as long."""
    slowed = []
    for result in one.workloads:
        p90_high_s = None if result.latency.p90_s is None else result.latency.p90_s * 1.4
        latency = result.latency.model_copy(update={"p90_high_s": p90_high_s})
        rounds_s = (*result.round_p50_s[:-1], result.latency.p50_s * 1.4)
        slowed.append(result.model_copy(update={"latency": latency, "round_p50_s": rounds_s}))
    speeds = {
        field: {
            work: ratio.model_copy(update={"low": ratio.median / 1.4}) for work, ratio in getattr(one, field).items()
        }
        for field in ("speedup", "speedup_model_only", "speedup_exported")
    }
    return one.model_copy(update={"workloads": tuple(slowed), **speeds})


def split_quality(value: float, teacher: float) -> SplitQuality:
    """Return one split's quality for a model whose metric is `value`."""
    return SplitQuality(
        metric=metric(value),
        retained=metric(value / teacher, 0.011),
        teacher_agreement=metric(0.91),
        teacher_flips=90,
        student_agreement=metric(0.997, 0.003),
        student_flips=3,
    )


def subject(
    name: str, title: str, p50_s: float, size_bytes: int, quality: float, splits: tuple[str, ...], teacher_p50_s: float
) -> Subject:
    """Return one measured model."""
    role = {"teacher": "teacher", "teacher.onnx": "teacher_exported"}.get(name, "artifact")
    quantized = role == "artifact" and name != "onnx.float32"
    speed = speedup(teacher_p50_s, p50_s)
    return Subject(
        name=name,
        title=title,
        role=role,
        runtime="pytorch" if role == "teacher" else "onnxruntime",
        scheme="float32",
        sha256=digest(len(name)),
        model_bytes=size_bytes,
        shipped_bytes=size_bytes + 700_000,
        load_median_s=size_bytes / 4e8,
        load_max_s=size_bytes / 3e8,
        memory=Memory(
            peak_median_bytes=60_000_000 + 2 * size_bytes,
            peak_max_bytes=61_000_000 + 2 * size_bytes,
            imported_median_bytes=50_000_000,
            source="VmHWM",
        ),
        workloads=workloads(p50_s),
        speedup={} if role == "teacher" else speed,
        speedup_model_only={} if role == "teacher" else speed,
        speedup_exported=speedup(EXPORTED_TEACHER_P50_S, p50_s) if role == "artifact" else {},
        speedup_float=speedup(FLOAT_STUDENT_P50_S, p50_s) if quantized else {},
        quality={
            split: split_quality(quality * (1 - 0.035 * i), 0.861 * (1 - 0.033 * i)) for i, split in enumerate(splits)
        },
        noise=Noise(cpu_pressure_percent=0.4, involuntary_switches_per_s=3.2, steal_percent=None, cpu_per_wall=0.998),
        kernels={"MatMul": 12, "LayerNormalization": 7, "Gather": 3},
        outputs_checked=True,
    )


def speedup(before_s: float, after_s: float) -> dict[str, Ratio]:
    """Return the ratio on every workload of two subjects by the p50 of their short texts."""
    ratios = dict.fromkeys(WORKLOADS, before_s / after_s)
    ratios["batch_1_spaced"] *= slow_after_idling(before_s) / slow_after_idling(after_s)
    return {work: Ratio(median=ratio, low=ratio * 0.94, high=ratio * 1.07) for work, ratio in ratios.items()}


def step(before: str, after: str, stage: str, value: float, half: float, splits: tuple[str, ...]) -> Step:
    """Return one bar of the waterfall."""
    differences = {split: metric(value * (1 + 0.3 * i), half) for i, split in enumerate(splits)}
    artifact = None if stage == "distill" else after
    return Step(
        before=before,
        after=after,
        stage=stage,
        artifact=artifact,
        differences=differences,
        mean=metric(value * 1.2, half * 0.6),
    )


def benchmark(splits: tuple[str, ...] = ("test", *CHALLENGES)) -> BenchmarkResult:
    """Return a benchmark of a teacher, its ONNX file, a float student with a slow round, and a quantized one."""
    rows = (
        ("teacher", "teacher, PyTorch float32", TEACHER_P50_S, 90_900_000, 0.861),
        ("teacher.onnx", "teacher, ONNX float32", EXPORTED_TEACHER_P50_S, 91_300_000, 0.861),
        ("onnx.float32", "student, onnx float32", FLOAT_STUDENT_P50_S, 31_400_000, 0.802),
        ("onnx.dynamic_int8", "student, onnx dynamic_int8", 0.000131, 8_010_000, 0.801),
    )
    subjects = [subject(*row, splits, TEACHER_P50_S) for row in rows]
    subjects[2] = with_slow_round(subjects[2])
    steps = (
        step("teacher", "student", "distill", -0.059, 0.011, splits),
        step("student", "onnx.float32", "export", 0.0, 0.0, splits),
        step("onnx.float32", "onnx.dynamic_int8", "quantize", -0.001, 0.0008, splits),
    )
    return BenchmarkResult(
        metric_name="accuracy",
        splits=splits,
        rounds=5,
        subjects=tuple(subjects),
        waterfall=steps,
        controls=(
            comparison("tfidf_linear", "TF-IDF + linear", 0.041, splits, tied=("challenge.amazon",)),
            comparison("no_teacher", "the same student without the teacher", 0.013, splits),
            comparison("majority", "majority", 0.3, splits),
        ),
        seeds=(),
        student_quality={split: split_quality(0.802, 0.861) for split in splits},
        simulated_quality={"dynamic_int8": {split: split_quality(0.801, 0.861) for split in splits}},
        environment=Environment(
            machine="x86_64",
            cpu="Example CPU 9000 @ 2.1 GHz",
            cpu_features=("avx2", "avx512f", "avx512_vnni"),
            logical_cpus=2,
            memory_bytes=16_000_000_000,
            operating_system="Linux 6.1",
            threads=1,
            versions={"python": "3.11.2", "torch": "2.13.0", "onnxruntime": "1.27.0"},
            target="host",
            emulated=False,
        ),
        validity=Validity(valid=True, disturbed=(), wrong=()),
        seconds=31.0,
    )


def comparison(
    control: str, title: str, ahead: float, splits: tuple[str, ...], tied: tuple[str, ...] = ()
) -> Comparison:
    """Return the student against a control that it beats by `ahead`, except on the `tied` splits."""
    return Comparison(
        control=control,
        title=title,
        quality={split: metric(0.8 - ahead) for split in splits},
        differences={split: metric(0.002 if split in tied else ahead, 0.009) for split in splits},
        mean=metric(ahead, 0.006),
    )
