"""A student that is narrower: fewer columns, heads and neurons than the teacher has, and fewer layers.

It starts from the teacher's weights, cut to size: first as kind `layers` does it, then as `models/shrinking.py` does,
which says what of that is exact. The directions that are kept are those that the hidden states of the teacher's kept
layers lie in. Since no corpus is at hand, they are asked about its vocabulary: every token once, in sentences without
sense. Of the embeddings alone, deeper layers would keep less; of texts that the student will read, more.

Source: Jiao et al. 2020, "TinyBERT", arXiv:1909.10351, section 4.1 (narrower, thinner and shallower in one; trained
from scratch there); the sources of the cut stand in `models/shrinking.py`.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from edgedistill.errors import ModelError
from edgedistill.files import write_atomic
from edgedistill.models.anatomy import Anatomy, layers_of, of_encoder
from edgedistill.models.encoder_names import ENCODERS, EncoderNames, Sizes
from edgedistill.models.students import layers as by_layers
from edgedistill.progress import bar
from edgedistill.section import StudentOptions

SENTENCE_TOKENS = 64  # or half of the positions that there are
MOST_SENTENCES = 512
SENTENCES_AT_ONCE = 32


class Options(StudentOptions):
    """What the student has less of; what is left out stays as it is in the teacher."""

    kind: Literal["scaled"]
    layers: Annotated[int, Field(ge=1)] | tuple[by_layers.Index, ...] | None = Field(
        None, description="How many, spread evenly with the first and the last among them; or which, counted from 0."
    )
    hidden_size: int | None = Field(None, ge=8, description="Numbers for each token between the layers.")
    num_attention_heads: int | None = Field(
        None, ge=1, description="Heads in each layer, each of hidden_size over heads numbers; left out, all stay."
    )
    intermediate_size: int | None = Field(None, ge=1, description="Neurons in each layer's feed-forward part.")

    TASKS: ClassVar[frozenset[str]] = frozenset(
        {"text_classification", "multi_label_classification", "sentence_embedding"}
    )

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.hidden_size and self.num_attention_heads and self.hidden_size % self.num_attention_heads:
            raise ValueError(_uneven(self.hidden_size, self.num_attention_heads))
        return self


def make(options: Options, teacher: Path, labels: tuple[str, ...], folder: Path) -> Any:
    """Return a model of the chosen sizes, its weights cut out of the teacher's; with the teacher's, those.

    Args:
        teacher: the checkpoint to take the weights from.
        labels: class names; a checkpoint without a head gets a new one for them, so seed torch before. Empty for a
            sentence embedder.
        folder: where the directions to keep are noted while the stage is unfinished.

    Raises:
        ModelError: the teacher is smaller than that, or of an architecture that is not known here.
    """
    from edgedistill.models.config_json import read_config
    from edgedistill.models.cut_encoder import CutEncoder
    from edgedistill.models.factorised import FactorisedEmbedding
    from edgedistill.models.load import load_tokenizer
    from edgedistill.models.shrinking import principal_basis, whole_basis

    written = read_config(teacher)
    names, before, after = _plan(options, written)
    cut: Any = by_layers.make(_layers(options, written), teacher, labels, folder)
    if isinstance(cut.token_table, FactorisedEmbedding):
        cut.replace_token_table(cut.token_table.whole())
    if after.hidden_size < before.hidden_size:
        moment = _stream_moment(cut.model.base_model.eval(), load_tokenizer(teacher), folder / "stream_moment.npy")
        basis = principal_basis(moment, after.hidden_size)
    else:
        basis = whole_basis(after.hidden_size)
    config = deepcopy(cut.model.config)
    config.update(names.changed(written, after))
    small = cut.around(type(cut.model)(config))
    parts = CutEncoder(cut.model.state_dict(), names if labels else names.without_head(), before, after, basis)
    small.model.load_state_dict(parts.state(config.num_hidden_layers))
    if not labels and small.width < cut.width:  # the teacher's directions again, as far as they were kept
        small.project(basis.matrix if cut.dense is None else cut.dense.weight @ basis.matrix)
    return small


def anatomy(options: Options, config: Mapping[str, Any], classes: int, tokens: int) -> Anatomy:
    """Count the student without making it.

    Raises:
        ModelError: it cannot be cut out of this teacher.
    """
    names, _, after = _plan(options, config)
    kept = by_layers.chosen(_layers(options, config), layers_of(config))
    return of_encoder("student", {**config, **names.changed(config, after)}, len(kept), classes, tokens)


def describe(options: Options) -> str:
    """Say in words what the student starts from."""
    return (
        "the teacher's weights, cut to size: directions by PCA of its hidden states, heads and neurons by their norms"
    )


def _layers(options: Options, config: Mapping[str, Any]) -> by_layers.Options:
    """Return which layers stay, in the words of kind `layers`."""
    return by_layers.Options(kind="layers", layers=layers_of(config) if options.layers is None else options.layers)


def _plan(options: Options, config: Mapping[str, Any]) -> tuple[EncoderNames, Sizes, Sizes]:
    """Return the names of the teacher's parts, its sizes, and the student's.

    Raises:
        ModelError: the architecture is not known here, or a size is none that the student can have.
    """
    names = ENCODERS.get(config.get("model_type", ""))
    if names is None:
        raise ModelError(
            f"student.kind: scaled knows the parts of {', '.join(ENCODERS)}, and the teacher's model_type is "
            f"{config.get('model_type')!r}; choose student.kind: layers or static"
        )
    before = names.sizes_in(config)
    sizes = {name: getattr(options, name) or most for name, most in asdict(before).items()}
    for name, most in asdict(before).items():
        if sizes[name] > most:
            raise ModelError(f"student.{name}: {sizes[name]} is more than the teacher's {most}; write {most} or less")
    after = Sizes(**sizes)
    if after.hidden_size % after.num_attention_heads:
        key = "hidden_size" if options.num_attention_heads is None else "num_attention_heads"
        raise ModelError(f"student.{key}: {_uneven(after.hidden_size, after.num_attention_heads)}")
    if after.hidden_size < before.hidden_size and config.get("embedding_size") == after.hidden_size:
        raise ModelError(
            f"student.hidden_size: {after.hidden_size} is the width of the teacher's embeddings, and the projection "
            "that they go through would be left out; choose another width"
        )
    return names, before, after


def _uneven(hidden_size: int, heads: int) -> str:
    below = hidden_size - hidden_size % heads
    return (
        f"hidden_size {hidden_size} does not divide into {heads} heads; "
        f"write {f'{below} or ' if below else ''}{below + heads}, or another num_attention_heads"
    )


def _stream_moment(encoder: Any, tokenizer: Any, file: Path) -> Any:
    """Return the mean of h h^T over the hidden states of all layers, (hidden, hidden) float64; kept in `file`."""
    import numpy as np
    import torch

    if file.exists():
        return torch.from_numpy(np.load(file))
    sentences, hidden = _sentences(encoder.config, tokenizer), encoder.config.hidden_size
    moment, states = torch.zeros(hidden, hidden, dtype=torch.float64), 0
    with torch.inference_mode(), bar("directions to keep", len(sentences), "sentences") as advance:
        for start in range(0, len(sentences), SENTENCES_AT_ONCE):
            ids = torch.from_numpy(sentences[start : start + SENTENCES_AT_ONCE])
            said = encoder(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
            for state in said.hidden_states:  # (batch, tokens, hidden)
                rows = state.flatten(0, 1).double()
                moment += rows.T @ rows
                states += len(rows)
            advance(len(ids))
    moment /= states
    written = BytesIO()
    np.save(written, moment.numpy())
    write_atomic(file, written.getvalue())
    return moment


def _sentences(config: Any, tokenizer: Any) -> Any:
    """Return ids of the vocabulary in shuffled order, framed as the tokenizer frames a text, (sentences, tokens)."""
    import numpy as np

    frame = [token for token in (tokenizer.cls_token_id, tokenizer.sep_token_id) if token is not None]
    words = min(SENTENCE_TOKENS, config.max_position_embeddings // 2) - len(frame)
    count = min(MOST_SENTENCES, -(-config.vocab_size // words))
    shuffled = np.random.default_rng(0).permutation(config.vocab_size)
    sentences = np.resize(shuffled, (count, words))
    framed = len(frame) == 2
    return np.pad(sentences, ((0, 0), (1, 1)), constant_values=((0, 0), tuple(frame))) if framed else sentences
