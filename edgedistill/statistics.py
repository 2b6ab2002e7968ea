from edgedistill.benchmark.statistics import *  # noqa: F403
