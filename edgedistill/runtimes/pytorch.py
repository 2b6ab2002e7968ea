"""PyTorch with transformers, as most users run a checkpoint before they compress it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers

from edgedistill.models.load import load_model, load_tokenizer
from edgedistill.runtimes._model import Encoded

SERVES = frozenset({"encoder"})

for name in (
    "AutoModel",
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "PreTrainedModel",
    "PreTrainedTokenizerFast",
):
    getattr(transformers, name)  # it imports its parts when first asked for: now, so that loading does not pay for it


class TorchModel:
    """A checkpoint in evaluation mode and its tokenizer."""

    def __init__(self, root: Path, *, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = load_model(root, attention=None)
        self._tokenizer = load_tokenizer(root)
        self.labels = self._model.labels
        self.several = bool(self.labels and self._model.several)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return input_ids and attention_mask, each (batch, tokens) int64, padded to the longest text."""
        encoded = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="np")
        return {name: encoded[name].astype(np.int64) for name in ("input_ids", "attention_mask")}

    def run(self, encoded: Encoded) -> np.ndarray:
        """Return logits, (batch, classes) float32, or sentence vectors, (batch, width)."""
        with torch.inference_mode():
            outputs: torch.Tensor = self._model(
                torch.from_numpy(encoded["input_ids"]), torch.from_numpy(encoded["attention_mask"])
            )
        return outputs.float().numpy()

    def kernels(self) -> dict[str, int]:
        """Return module types with their counts; eager PyTorch runs them as they are."""
        leaves = [type(module).__name__ for module in self._model.modules() if not list(module.children())]
        return dict(sorted(Counter(leaves).items()))


def load(root: Path, file: str = "", *, threads: int, exact: bool = False) -> TorchModel:  # noqa: ARG001
    """Load the checkpoint folder `root`; `file` and `exact` have no meaning here, PyTorch runs what is written."""
    return TorchModel(root, threads=threads)


def versions() -> dict[str, str]:
    """Return what decides this runtime's numbers."""
    return {"torch": torch.__version__, "transformers": transformers.__version__}
