"""Loading models and tokenizers from a folder; safetensors only, and no code from the folder is run."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from textwrap import shorten
from typing import Any, cast

from edgedistill.errors import ModelError
from edgedistill.models import sentence_transformers as layout
from edgedistill.models.classifier import Classifier, StaticClassifier, TransformerClassifier
from edgedistill.models.config_json import STATIC, STATIC_EMBEDDER, has_head, read_config
from edgedistill.models.embedder import Embedder, StaticEmbedder, TransformerEmbedder, dense_in
from edgedistill.models.factorised import RANK, FactorisedEmbedding

CLASSIFIER = "AutoModelForSequenceClassification"
CAUSAL = "AutoModelForCausalLM"
WHAT = {CLASSIFIER: "a text classifier", "AutoModel": "an encoder", CAUSAL: "a causal language model"}
LONGEST_REASON = 300  # characters of a library's own words
FETCH_AGAIN = "fetch it again, and compare its sha256 with the source"


def load_model(folder: Path, attention: str | None = "eager") -> Classifier | Embedder:
    """Return the classifier or the sentence embedder in `folder`, on the CPU, as float32, in evaluation mode.

    A checkpoint with a classification head is a classifier; one that says how it pools is an embedder.

    Args:
        attention: implementation, in transformers' words; `eager` is what the ONNX exporters read best, None is what
            a user gets who asks for nothing.

    Raises:
        ModelError: the checkpoint is neither of the two, or its files do not fit each other.
    """
    config = read_config(folder)
    static: dict[str, Any] = {STATIC: StaticClassifier, STATIC_EMBEDDER: StaticEmbedder}
    for name in config.get("architectures") or []:
        if name in static:
            model: Any = static[name].read(folder, config).eval()
            _check_finite(model, folder)
            return cast("StaticClassifier | StaticEmbedder", model)
    if has_head(config):
        return TransformerClassifier(from_pretrained(folder, attn_implementation=attention)).eval()
    if layout.is_there(folder):
        return load_embedder(folder, attention=attention)
    raise ModelError(f"{folder} has no classification head; add teacher.fit to the recipe to train one")


def load_embedder(
    folder: Path, pooling: layout.Pooling | None = None, *, attention: str | None = "eager"
) -> TransformerEmbedder:
    """Return a checkpoint's encoder as a sentence embedder, as float32, in evaluation mode.

    Args:
        pooling: None takes what the folder itself says, in the layout of sentence-transformers; a folder that says
            nothing needs one, and its vectors are normalised.

    Raises:
        ModelError: nothing says how to pool, or its files do not fit each other.
    """
    if not layout.is_there(folder) and pooling is None:
        raise ModelError(f"{folder} does not say how it pools (no {layout.MODULES}); write task.pooling, such as mean")
    steps = layout.read(folder) if layout.is_there(folder) else layout.Steps(pooling or "mean", normalize=True)
    dense = dense_in(folder / steps.dense) if steps.dense else None
    encoder = _encoder(folder, attention)
    model = TransformerEmbedder(encoder, pooling or steps.pooling, normalize=steps.normalize, dense=dense).eval()
    _check_finite(model, folder)
    return model


def _encoder(folder: Path, attention: str | None) -> Any:
    """Return a checkpoint's encoder alone; a head that it was saved with is left behind."""
    if has_head(read_config(folder)):
        return from_pretrained(folder, attn_implementation=attention).base_model
    return from_pretrained(folder, factory="AutoModel", attn_implementation=attention)


def load_encoder_with_new_head(folder: Path, labels: tuple[str, ...]) -> TransformerClassifier:
    """Return the checkpoint's encoder under a freshly initialised head for `labels`; seed torch before.

    A head that the checkpoint was saved with is left behind, whatever its labels.
    """
    names: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    if not has_head(read_config(folder)):
        return TransformerClassifier(from_pretrained(folder, **names))
    headed = from_pretrained(folder)
    config = deepcopy(headed.config)
    config.update(names)
    model = type(headed)(config)
    model.set_input_embeddings(headed.get_input_embeddings())  # which may be factorised
    model.base_model.load_state_dict(headed.base_model.state_dict())
    return TransformerClassifier(model)


def load_encoder(folder: Path, labels: tuple[str, ...]) -> Any:
    """Return the checkpoint's encoder alone, whether it was saved with a head or not."""
    headed = has_head(read_config(folder))
    head: dict[str, Any] = {} if headed else {"num_labels": len(labels)}
    return from_pretrained(folder, **head).base_model.eval()


def from_pretrained(
    folder: Path, *, factory: str = CLASSIFIER, attn_implementation: str | None = "eager", **head: Any
) -> Any:
    """Return the checkpoint as one of transformers' Auto classes reads it, on the CPU, as float32.

    Args:
        folder: a checkpoint of transformers.
        factory: the Auto class, one of WHAT.
        attn_implementation: in transformers' words; None leaves the choice to it.
        head: settings of a new classification head, which the checkpoint then need not hold.

    Raises:
        ModelError: weights are missing, not finite, or do not fit config.json.
    """
    import torch
    import transformers

    if RANK in read_config(folder):
        return _factorised(folder, factory, attn_implementation)
    try:
        with quiet():  # a new head is announced by us, in the report
            model, loaded = getattr(transformers, factory).from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,  # left out, transformers would ask on the terminal
                output_loading_info=True,
                dtype=torch.float32,
                attn_implementation=attn_implementation,
                **head,
            )
    except MemoryError:
        raise
    except Exception as error:  # a config that does not fit lets anything through: TypeError, AttributeError, ...
        raise ModelError(f"{folder} cannot be loaded as {WHAT[factory]}: {reason_of(error)}; {FETCH_AGAIN}") from error
    made_up = sorted(loaded["missing_keys"])
    if head:  # is to be trained, and so is the pooler before it
        encoder = f"{model.base_model_prefix}."
        made_up = [name for name in made_up if name.startswith(encoder) and ".pooler." not in name]
    if factory != CLASSIFIER:  # the pooler is made for a head
        made_up = [name for name in made_up if not name.startswith("pooler.")]
    if made_up:
        raise ModelError(
            f"{folder} lacks {len(made_up)} weights that its config.json speaks of, such as {made_up[0]}; "
            "fetch it again, or name a whole checkpoint"
        )
    _check_finite(model, folder)
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Have transformers say nothing but errors, and show no progress."""
    from transformers.utils import logging

    said: Any = logging  # its functions carry no types
    verbosity = said.get_verbosity()
    said.set_verbosity_error()
    said.disable_progress_bar()
    try:
        yield
    finally:
        said.set_verbosity(verbosity)


def _factorised(folder: Path, kind: str, attention: str | None) -> Any:
    """Return the model of a checkpoint whose token table is factorised; no weight may be missing or left over."""
    import torch
    import transformers
    from safetensors.torch import load_file
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    rank, factory = getattr(config, RANK), cast("Any", getattr(transformers, kind))  # carries no types
    delattr(config, RANK)  # the table says it from now on
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
        model = factory.from_config(config, attn_implementation=attention)
        table = model.get_input_embeddings()
        factors = FactorisedEmbedding(table.num_embeddings, rank, table.embedding_dim, table.padding_idx)
    model.set_input_embeddings(factors)
    if kind != CLASSIFIER and getattr(model, "pooler", None) is not None:
        model.pooler = None
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"{folder} does not hold what its config.json says: {reason_of(error)}; {FETCH_AGAIN}"
        ) from error
    _check_finite(model, folder)
    return model


def _check_finite(model: Any, folder: Path) -> None:
    """Check that every weight is a number.

    Raises:
        ModelError: one is not; the text names the first tensor that holds such a weight.
    """
    for name, weights in model.named_parameters():
        wrong = int((~weights.isfinite()).sum())
        if wrong:
            raise ModelError(f"{folder}: {wrong} weights of {name} are NaN or infinite; {FETCH_AGAIN}")


def reason_of(error: Exception) -> str:
    """Return what a library says, on one line; a bare word, as a KeyError has, is told with the error's name."""
    said = shorten(str(error), LONGEST_REASON, placeholder=" [cut]").rstrip(".")
    return said if " " in said else f"{type(error).__name__} {said}".strip()


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in `folder`; its longest input is what tokenizer_config.json says.

    Raises:
        ModelError: there is none, it exists only as Python code and not as a tokenizer.json, or it cannot pad.
    """
    tokenizer = load_reader(folder)
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{folder} has a tokenizer without a padding token; name one as pad_token in its settings")
    return tokenizer


def load_reader(folder: Path) -> Any:
    """Return the tokenizer in `folder` for single texts; it may be one that cannot pad.

    Raises:
        ModelError: there is none, or it exists only as Python code and not as a tokenizer.json.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} has no tokenizer that can be loaded: {reason_of(error)}; {FETCH_AGAIN}") from error
    if not tokenizer.is_fast:
        raise ModelError(f"{folder} has no fast tokenizer (tokenizer.json); an app could not run it")
    if tokenizer.get_vocab().keys() <= set(tokenizer.all_special_tokens):  # what transformers makes out of nothing
        raise ModelError(f"{folder} has no tokenizer files; put tokenizer.json beside config.json")
    return tokenizer
