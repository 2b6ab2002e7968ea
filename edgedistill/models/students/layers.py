"""A student that keeps some of the teacher's layers, at the teacher's width.

Source: Sanh et al. 2019, "DistilBERT", arXiv:1910.01108, section 3 (initialise the student with every other layer).
"""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from edgedistill.errors import ModelError
from edgedistill.models.anatomy import Anatomy, layers_of, of_encoder
from edgedistill.models.config_json import is_causal
from edgedistill.models.decoder_anatomy import of_decoder
from edgedistill.section import StudentOptions

Index = Annotated[int, Field(ge=0)]


class Options(StudentOptions):
    """Which of the teacher's layers stay."""

    kind: Literal["layers"]
    layers: Annotated[int, Field(ge=1)] | tuple[Index, ...] = Field(
        examples=[2],
        description="How many, spread evenly with the first and the last among them; or which, counted from 0.",
    )

    TASKS: ClassVar[frozenset[str]] = frozenset(
        {"text_classification", "multi_label_classification", "sentence_embedding", "text_generation"}
    )


def chosen(options: Options, available: int) -> tuple[int, ...]:
    """Return the kept layers' indices, ascending.

    Raises:
        ModelError: the teacher has no such layers.
    """
    if isinstance(options.layers, int):
        if options.layers > available:
            raise ModelError(f"student.layers: {options.layers} is more than the teacher's {available} layers")
        last = available - 1
        return (
            (last,)
            if options.layers == 1
            else tuple(round(i * last / (options.layers - 1)) for i in range(options.layers))
        )
    picked = tuple(sorted(set(options.layers)))
    if not picked or picked != options.layers or picked[-1] >= available:
        raise ModelError(
            f"student.layers: {list(options.layers)} must name layers of 0..{available - 1}, ascending, each once"
        )
    return picked


def make(options: Options, teacher: Path, labels: tuple[str, ...], folder: Path) -> Any:
    """Return the teacher's embeddings, the chosen layers, and what follows them: its head, or how it pools.

    Args:
        teacher: the checkpoint to take the weights from.
        labels: class names; a checkpoint without a head for them gets a new one, so seed torch before. Empty for a
            sentence embedder and for a decoder.
        folder: unused; other kinds of student keep half-finished work there.

    Raises:
        ModelError: the layers do not exist, or the architecture does not keep them in a list of its own.
    """
    from edgedistill.models.config_json import STATIC, STATIC_EMBEDDER, has_head, read_config
    from edgedistill.models.decoder import load_decoder
    from edgedistill.models.load import load_encoder_with_new_head, load_model

    written = read_config(teacher)
    if {STATIC, STATIC_EMBEDDER} & set(written.get("architectures") or []):
        raise ModelError(f"{teacher} has no layers to keep; choose student.kind: static")
    model: Any
    if is_causal(written):
        model = load_decoder(teacher)
    elif has_head(written) or not labels:
        model = load_model(teacher)
    else:
        model = load_encoder_with_new_head(teacher, labels)
    full = model.model
    available = full.config.num_hidden_layers
    keep = chosen(options, available)
    config = deepcopy(full.config)
    for key, value in shortened(full.config, keep).items():
        setattr(config, key, value)
    small = model.around(type(full)(config))
    small.replace_token_table(model.token_table)  # which may be factorised
    small.model.load_state_dict(_renumbered(full.state_dict(), list_name(full, available), keep))
    return small


def anatomy(options: Options, config: Mapping[str, Any], classes: int, tokens: int) -> Anatomy:
    """Count the student without making it."""
    layers = len(chosen(options, layers_of(config)))
    if is_causal(config):
        return of_decoder("student", config, layers, tokens)
    return of_encoder("student", config, layers, classes, tokens)


def describe(options: Options) -> str:
    """Say in words what the student starts from."""
    return "the teacher's embeddings, head and chosen layers"


def shortened(config: Any, keep: Sequence[int]) -> dict[str, Any]:
    """Return what a configuration says otherwise of some of its layers: lists by layer shrink, such as layer_types."""
    layers = config.num_hidden_layers
    lists = {
        key: [value[i] for i in keep]
        for key, value in vars(config).items()
        if isinstance(value, list) and len(value) == layers and key != "architectures"
    }
    return {"num_hidden_layers": len(keep), **lists}


def list_name(model: Any, layers: int) -> str:
    """Return the dotted name of the list that holds a model's layers.

    Raises:
        ModelError: there is no such list, or more than one.
    """
    import torch

    lists: list[str] = [
        name for name, part in model.named_modules() if isinstance(part, torch.nn.ModuleList) and len(part) == layers
    ]
    if len(lists) != 1:
        raise ModelError(
            f"{type(model).__name__} keeps its {layers} layers in {len(lists)} lists; "
            "student.kind: layers needs exactly one"
        )
    return lists[0]


def _renumbered(state: Mapping[str, Any], list_name: str, keep: tuple[int, ...]) -> dict[str, Any]:
    """Return the state with the kept layers numbered from 0 and the others left out."""
    new_index = {old: new for new, old in enumerate(keep)}
    pattern = re.compile(rf"^{re.escape(list_name)}\.(\d+)\.")
    renamed: dict[str, Any] = {}
    for name, tensor in state.items():
        found = pattern.match(name)
        if found is None:
            renamed[name] = tensor
        elif int(found[1]) in new_index:
            renamed[f"{list_name}.{new_index[int(found[1])]}.{name[found.end() :]}"] = tensor
    return renamed
