"""A student without layers: a table of token vectors, their mean, and a small head. The hundredfold tier.

The table starts as what the teacher's encoder makes of each token of its vocabulary alone, reduced by PCA and
weighted by how rare the token is likely to be (vocabularies are sorted by frequency, so its rank tells).

Source: Model2Vec (https://github.com/MinishLab/model2vec) for token vectors, PCA and Zipf weighting;
Arora, Liang, Ma 2017, "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", for the weight a / (a + p).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgedistill.models.anatomy import Anatomy, of_static
from edgedistill.section import StudentOptions

RARITY = 1e-4  # Arora et al.'s a, as Model2Vec sets it
TOKENS_AT_ONCE = 256


class Options(StudentOptions):
    """Size of the table and of the head."""

    kind: Literal["static"]
    dimensions: int = Field(
        256, ge=8, le=1024, examples=[128], description="Numbers in each token's vector; sets the file's size."
    )
    hidden_size: int = Field(128, ge=1, le=4096, description="Width of the head's one hidden layer.")

    TRAINING: ClassVar[Mapping[str, Any]] = {"epochs": 15, "batch_size": 256, "learning_rate": 1e-3}
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_classification"})


def make(options: Options, teacher: Path, labels: tuple[str, ...], folder: Path) -> Any:
    """Return a static classifier whose table was initialised from the teacher; seed torch before.

    Args:
        teacher: the checkpoint to take vocabulary and token vectors from.
        labels: class names.
        folder: where the token vectors are kept while the stage is unfinished.
    """
    import torch

    from edgedistill.models.classifier import StaticClassifier

    vectors = _token_vectors(teacher, labels, options.dimensions, folder)
    model = StaticClassifier(len(vectors), options.dimensions, options.hidden_size, labels)
    with torch.no_grad():
        model.embedding.weight.copy_(torch.from_numpy(vectors))
    return model


def anatomy(options: Options, config: Mapping[str, Any], classes: int, tokens: int) -> Anatomy:
    """Count the student without making it."""
    return of_static("student", config["vocab_size"], options.dimensions, options.hidden_size, classes, tokens)


def describe(options: Options) -> str:
    """Say in words what the student starts from."""
    return "each token through the teacher's encoder alone, reduced by PCA"


def _token_vectors(teacher: Path, labels: tuple[str, ...], dimensions: int, folder: Path) -> Any:
    """Return (vocab, dimensions) float32, of unit scale; kept in `folder`, so an interruption costs them once."""
    import numpy as np
    import torch
    from sklearn.decomposition import PCA

    cached = folder / "token_vectors.npy"
    if cached.exists():
        return np.load(cached)
    with torch.random.fork_rng(devices=[]):  # loading draws random numbers where there is no head; kept vectors do not
        raw = _encode_each_token(teacher, labels, folder)
    kept = min(dimensions, *raw.shape)
    if kept < raw.shape[1]:
        raw = PCA(kept, svd_solver="covariance_eigh").fit_transform(raw)
    raw = np.pad(raw, ((0, 0), (0, dimensions - kept)))
    rank = np.arange(2, len(raw) + 2)
    probability = 1 / rank / (1 / rank).sum()
    vectors = (raw * (RARITY / (RARITY + probability))[:, None]).astype(np.float32)
    vectors /= vectors.std()
    draft = cached.with_name("token_vectors.draft.npy")
    np.save(draft, vectors)
    draft.replace(cached)
    return vectors


def _encode_each_token(teacher: Path, labels: tuple[str, ...], folder: Path) -> Any:
    """Return the encoder's mean output for `[CLS] token [SEP]`, over the whole vocabulary, (vocab, hidden).

    Kept in `folder` batch by batch: a large vocabulary takes a large encoder some minutes.
    """
    import numpy as np
    import torch
    from accelerate import Accelerator

    from edgedistill.models.load import load_encoder, load_tokenizer
    from edgedistill.resumable import resumable

    tokenizer, device = load_tokenizer(teacher), Accelerator().device
    encoder = load_encoder(teacher, labels).to(device)
    vocab, hidden = encoder.config.vocab_size, encoder.config.hidden_size
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id

    @torch.inference_mode()
    def encode(tokens: np.ndarray) -> np.ndarray:
        framed = [np.full_like(tokens, start), tokens, np.full_like(tokens, end)]
        columns = [tokens] if start is None or end is None else framed
        ids = torch.from_numpy(np.stack(columns, axis=1)).to(device)
        output = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        means: np.ndarray = output.mean(dim=1).float().cpu().numpy()
        return means

    batches = [np.arange(i, min(i + TOKENS_AT_ONCE, vocab)) for i in range(0, vocab, TOKENS_AT_ONCE)]
    return resumable(folder / "tokens.npy", (vocab, hidden), batches, encode, folder, "token vectors", "tokens")
