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
    TASKS: ClassVar[frozenset[str]] = frozenset(
        {"text_classification", "multi_label_classification", "sentence_embedding"}
    )


def make(options: Options, teacher: Path, labels: tuple[str, ...], folder: Path) -> Any:
    """Return a static model whose table was initialised from the teacher; seed torch before.

    Args:
        teacher: the checkpoint to take vocabulary and token vectors from.
        labels: class names; empty for a sentence embedder, whose vectors lie where the teacher's do.
        folder: where the token vectors are kept while the stage is unfinished.
    """
    import torch

    from edgedistill.models.classifier import StaticClassifier
    from edgedistill.models.embedder import StaticEmbedder
    from edgedistill.models.load import load_tokenizer

    vectors, directions = _token_vectors(teacher, labels, options.dimensions, folder)
    model: StaticClassifier | StaticEmbedder
    if labels:
        model = StaticClassifier(len(vectors), options.dimensions, options.hidden_size, labels)
    else:
        tokenizer = load_tokenizer(teacher)
        frame = (tokenizer.cls_token_id, tokenizer.sep_token_id)
        framing = tuple(token for token in frame if token is not None)
        model = StaticEmbedder(len(vectors), options.dimensions, directions.shape[1], framing)
        model.project(torch.from_numpy(directions.T.copy()))
    with torch.no_grad():
        model.embedding.weight.copy_(torch.from_numpy(vectors))
    return model


def anatomy(options: Options, config: Mapping[str, Any], classes: int, tokens: int) -> Anatomy:
    """Count the student without making it; of an embedder, the table alone."""
    return of_static("student", config["vocab_size"], options.dimensions, options.hidden_size, classes, tokens)


def describe(options: Options) -> str:
    """Say in words what the student starts from."""
    return "each token through the teacher's encoder alone, reduced by PCA"


def _token_vectors(teacher: Path, labels: tuple[str, ...], dimensions: int, folder: Path) -> tuple[Any, Any]:
    """Return the table, (vocab, dimensions) float32 of unit scale, and the directions that its columns stand for.

    Directions are (dimensions, hidden) float32. Kept in `folder`, so an interruption costs them once.
    """
    import numpy as np
    import torch
    from sklearn.decomposition import PCA

    cached = folder / "token_vectors.npz"
    if cached.exists():
        kept_before = np.load(cached)
        return kept_before["vectors"], kept_before["directions"]
    with torch.random.fork_rng(devices=[]):  # loading draws random numbers where there is no head; kept vectors do not
        raw = _encode_each_token(teacher, labels, folder)
    kept = min(dimensions, *raw.shape)
    directions = np.eye(raw.shape[1], dtype=np.float32)
    if kept < raw.shape[1]:
        reduced = PCA(kept, svd_solver="covariance_eigh")
        raw, directions = reduced.fit_transform(raw), reduced.components_
    raw, directions = (
        np.pad(raw, ((0, 0), (0, dimensions - kept))),
        np.pad(directions, ((0, dimensions - kept), (0, 0))),
    )
    rank = np.arange(2, len(raw) + 2)
    probability = 1 / rank / (1 / rank).sum()
    vectors = (raw * (RARITY / (RARITY + probability))[:, None]).astype(np.float32)
    vectors /= vectors.std()
    directions = directions.astype(np.float32)
    draft = cached.with_name("token_vectors.draft.npz")
    np.savez(draft, vectors=vectors, directions=directions)
    draft.replace(cached)
    return vectors, directions


def _encode_each_token(teacher: Path, labels: tuple[str, ...], folder: Path) -> Any:
    """Return what the teacher makes of `[CLS] token [SEP]`, over the whole vocabulary, (vocab, hidden).

    Of a classifier that is the mean of its encoder's output, of an embedder the sentence's vector.

    Kept in `folder` batch by batch: a large vocabulary takes a large encoder some minutes.
    """
    import numpy as np
    import torch
    from accelerate import Accelerator

    from edgedistill.models.config_json import read_config
    from edgedistill.models.load import load_encoder, load_model, load_tokenizer
    from edgedistill.resumable import resumable

    tokenizer, device = load_tokenizer(teacher), Accelerator().device
    encoder: Any = (load_encoder(teacher, labels) if labels else load_model(teacher)).to(device)
    vocab = read_config(teacher)["vocab_size"]
    hidden = encoder.config.hidden_size if labels else encoder.width
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id

    @torch.inference_mode()
    def encode(tokens: np.ndarray) -> np.ndarray:
        framed = [np.full_like(tokens, start), tokens, np.full_like(tokens, end)]
        columns = [tokens] if start is None or end is None else framed
        ids = torch.from_numpy(np.stack(columns, axis=1)).to(device)
        said = encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
        vectors: np.ndarray = (said.last_hidden_state.mean(dim=1) if labels else said).float().cpu().numpy()
        return vectors

    batches = [np.arange(i, min(i + TOKENS_AT_ONCE, vocab)) for i in range(0, vocab, TOKENS_AT_ONCE)]
    return resumable(folder / "tokens.npy", (vocab, hidden), batches, encode, folder, "token vectors", "tokens")
