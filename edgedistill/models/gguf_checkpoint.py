"""A GGUF file of a causal language model as a checkpoint of transformers.

The numbers are those that the file stands for, read by transformers; what it takes from a file, and what it leaves in
silence, is checked before: hyperparameters that it does not read, tensors that it does not know, shapes that it would
only find not to fit once it has asked for the memory.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgedistill.errors import ModelError
from edgedistill.files import clear
from edgedistill.models import gguf_header
from edgedistill.models.gguf_tokenizer import special_ids, tokenizer_of
from edgedistill.models.load import FETCH_AGAIN, quiet, reason_of

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Whose logits were compared with those of llama.cpp, or of the checkpoint that the file was made of."""
READ = frozenset(
    {
        "attention.head_count",
        "attention.head_count_kv",
        "attention.layer_norm_rms_epsilon",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "vocab_size",
    }
)
"""Hyperparameters that transformers reads."""
NEEDED = frozenset({"context_length", "attention.head_count", "attention.layer_norm_rms_epsilon"})
"""Those of them that no tensor's shape shows to be missing."""
FOLLOW = {"attention.key_length": "head_dim", "attention.value_length": "head_dim"}
"""Hyperparameters that must say what a configuration says already."""
HARMLESS = {"rope.scaling.type": "none", "expert_count": 0, "expert_used_count": 0}
"""Hyperparameters that change nothing where they have this value."""
ROPE_THETA = 10000.0  # of llama.cpp, where a file does not say


def unpack(file: Path, folder: Path) -> Path:
    """Write the model of a GGUF file into `folder`, as transformers saves one, and return that folder.

    The weights are float32, or half precision where that holds every one of them exactly. What the folder held before
    is replaced, once the new one is whole.

    Raises:
        ModelError: the file is damaged, or holds something that cannot be read without changing it.
    """
    return _written(file, folder, _write)


def outline(file: Path, folder: Path) -> Path:
    """Write all of a GGUF file's model but its weights into `folder`, and return that folder.

    That is config.json, generation_config.json and the tokenizer, as `unpack` writes them. No weight is read, so that
    it costs no memory, however large the model is.

    Raises:
        ModelError: the file is damaged, or holds something that cannot be read without changing it.
    """
    return _written(file, folder, _write_outline)


def _written(file: Path, folder: Path, write: Callable[[Path, Path], None]) -> Path:
    gguf_header.check(file)
    draft = folder.with_name(f"{folder.name}.draft")
    clear(draft)
    try:
        write(file, draft)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    except (MemoryError, ModelError) as error:
        if isinstance(error, ModelError):
            raise ModelError(f"{file} cannot be used: {error}") from error
        raise
    except Exception as error:  # libraries let anything through where a file is damaged: KeyError, IndexError, ...
        raise ModelError(
            f"{file} cannot be read as a causal language model: {reason_of(error)}; {FETCH_AGAIN}"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _write(file: Path, folder: Path) -> None:
    with _read(file, folder) as (config, metadata, alone):
        model = _dequantized(alone, config)
        _say_ends(model, special_ids(metadata, metadata["tokenizer.ggml.tokens"]), metadata)
        model.to(_smallest_exact(model)).save_pretrained(folder)


def _write_outline(file: Path, folder: Path) -> None:
    with _read(file, folder) as (config, metadata, _):
        model = _without_weights(config)
        config.architectures = [type(model).__name__]
        _say_ends(model, special_ids(metadata, metadata["tokenizer.ggml.tokens"]), metadata)
        model.config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)


@contextmanager
def _read(file: Path, folder: Path) -> Iterator[tuple[Any, dict[str, Any], Path]]:
    """Give configuration, metadata, and a folder where the file lies alone; then write its tokenizer into `folder`."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    metadata = {key: field.contents() for key, field in reader.fields.items()}
    _check_architecture(metadata)
    tokenizer = tokenizer_of(metadata)
    with TemporaryDirectory() as alone, quiet(), redirect_stderr(io.StringIO()):  # of a progress bar that always shows
        Path(alone, "model.gguf").symlink_to(file.resolve())  # what lies beside the file shall not count
        yield _config(metadata, reader.tensors, Path(alone)), metadata, Path(alone)
    tokenizer.save_pretrained(folder)


def _without_weights(config: Any) -> Any:
    """Return a model whose tensors have shapes and no numbers."""
    import torch
    from transformers import AutoModelForCausalLM

    made: Any = AutoModelForCausalLM  # carries no types
    with torch.device("meta"):
        return made.from_config(config)


def _check_architecture(metadata: Mapping[str, Any]) -> None:
    """Check that transformers reads everything that the file says of its model.

    Raises:
        ModelError: the architecture is another one, or has a setting that would be lost.
    """
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise ModelError(f"its architecture is {architecture!r}, and these can be read: {', '.join(ARCHITECTURES)}")
    if metadata.get("split.count", 1) > 1:
        raise ModelError(
            f"it is one of {metadata['split.count']} parts; put them together with llama-gguf-split --merge"
        )
    said = {key.partition(".")[2]: value for key, value in metadata.items() if key.startswith(f"{architecture}.")}
    missing = sorted(NEEDED - said.keys())
    if missing:
        raise ModelError(f"it has no {architecture}.{missing[0]}, and nothing is made up in its place")
    lost = sorted(key for key in said.keys() - READ - FOLLOW.keys() if said[key] != HARMLESS.get(key, ...))
    if lost:
        raise ModelError(f"its {architecture}.{lost[0]} is {said[lost[0]]!r:.40}, which transformers would not read")


def _config(metadata: Mapping[str, Any], tensors: list[Any], folder: Path) -> Any:
    """Return the configuration that transformers makes of the file; it fits the file's tensors, each and all.

    Raises:
        ModelError: a tensor is missing, unknown or of another shape, or a hyperparameter is taken for another.
    """
    from transformers import AutoConfig

    architecture = metadata["general.architecture"]
    blocks = {tensor.name.split(".")[1] for tensor in tensors if tensor.name.startswith("blk.")}
    said_blocks = metadata.get(f"{architecture}.block_count")
    if said_blocks != len(blocks):  # before a model of as many layers is made
        raise ModelError(f"its {architecture}.block_count is {said_blocks}, and it holds {len(blocks)}")
    config = AutoConfig.from_pretrained(folder, gguf_file="model.gguf", trust_remote_code=False)
    wanted = {f"{architecture}.{key}": getattr(config, name, None) for key, name in FOLLOW.items()}
    taken = {
        **{key: value for key, value in wanted.items() if value is not None},
        f"{architecture}.rope.freq_base": config.rope_parameters["rope_theta"],
    }
    said = {f"{architecture}.rope.freq_base": ROPE_THETA, **metadata}
    for key, value in taken.items():
        if said.get(key, value) != value:
            raise ModelError(f"its {key} is {said[key]}, and transformers makes {value} of it")
    _check_shapes(architecture, config, {tensor.name: tuple(map(int, tensor.shape[::-1])) for tensor in tensors})
    tokens = len(metadata["tokenizer.ggml.tokens"])
    if tokens > config.vocab_size:
        raise ModelError(f"its tokenizer has {tokens} tokens, its token table {config.vocab_size} rows")
    return config


def _check_shapes(architecture: str, config: Any, found: Mapping[str, tuple[int, ...]]) -> None:
    from gguf import MODEL_ARCH, get_tensor_name_map

    weights = _without_weights(config).state_dict()
    if config.tie_word_embeddings:
        del weights["lm_head.weight"]
    names = get_tensor_name_map(MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    wanted = {str(names.get_name(name, (".weight", ".bias"))): tuple(one.shape) for name, one in weights.items()}
    unlike = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if unlike:
        name = unlike[0]
        raise ModelError(
            f"{len(unlike)} of its tensors are not what its hyperparameters say, such as {name}, which is "
            f"{found.get(name, 'missing')} and must be {wanted.get(name, 'absent: transformers would not read it')}"
        )


def _dequantized(folder: Path, config: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    made: Any = AutoModelForCausalLM  # carries no types
    model, loaded = made.from_pretrained(
        folder,
        config=config,
        gguf_file="model.gguf",
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    if loaded["missing_keys"]:
        raise ModelError(f"transformers found no {sorted(loaded['missing_keys'])[0]} in it")
    wrong = [name for name, weights in model.named_parameters() if not weights.isfinite().all()]
    if wrong:
        raise ModelError(f"weights of {wrong[0]} are NaN or infinite; {FETCH_AGAIN}")
    return model


def _say_ends(model: Any, ids: Mapping[str, int], metadata: Mapping[str, Any]) -> None:
    """Write the special ids into both configurations; a turn's end that is not the text's ends an answer, too."""
    turn = metadata.get("tokenizer.ggml.eot_token_id", ids["eos"])
    ends = [ids["eos"], turn] if turn != ids["eos"] else ids["eos"]
    for config in (model.config, model.generation_config):
        config.bos_token_id, config.pad_token_id, config.eos_token_id = ids.get("bos"), ids["pad"], ends


def _smallest_exact(model: Any) -> Any:
    """Return the half precision that holds every weight exactly, or float32."""
    import torch

    for half in (torch.bfloat16, torch.float16):
        if all(torch.equal(weights.to(half).float(), weights) for weights in model.state_dict().values()):
            return half
    return torch.float32
