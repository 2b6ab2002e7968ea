"""A language model with fewer channels, heads and neurons than its teacher, and fewer layers: those that do most stay.

What does most is measured on calibration text (`models/activation_importance.py`); what stays is cut out of the
teacher's weights (`models/cut_decoder.py`). Heads keep their width. Right after the cut it is a start for training, and
no model to ship.

Source: Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge Distillation" (Minitron),
arXiv:2407.14679, sections 2 and 3.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from edgedistill.errors import ModelError
from edgedistill.models.anatomy import Anatomy, layers_of
from edgedistill.models.decoder_anatomy import of_decoder
from edgedistill.models.decoder_parts import DecoderSizes, family_of, sizes_in
from edgedistill.models.students import layers as by_layers
from edgedistill.section import StudentOptions

IMPORTANCE, LAYERS = "importance.safetensors", "layers.json"
WIDTHS = ("hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")


class Options(StudentOptions):
    """What the student has less of; what is left out stays as it is in the teacher."""

    kind: Literal["pruned"]
    layers: Annotated[int, Field(ge=1)] | tuple[by_layers.Index, ...] | None = Field(
        None,
        description="How many: one after another goes, each time the one whose loss on calibration text is missed "
        "least; or which, counted from 0.",
    )
    search_tokens: int = Field(
        1024, ge=64, description="Most tokens of the calibration split that layers are dropped on, whole rows."
    )
    hidden_size: int | None = Field(
        None, ge=8, description="Channels of the stream between the layers; a multiple of 32, better of 256."
    )
    num_attention_heads: int | None = Field(
        None, ge=1, description="Heads of queries in each layer, as many for each head of keys and values."
    )
    num_key_value_heads: int | None = Field(
        None,
        ge=1,
        description="Heads of keys and values in each layer; null: all stay if the heads of queries divide among them, "
        "else whole groups go.",
    )
    intermediate_size: int | None = Field(
        None,
        ge=1,
        examples=[768],
        description="Neurons in each layer's feed-forward part; a multiple of 32, better of 256.",
    )
    calibration_tokens: int = Field(
        8192, ge=64, description="Most tokens of the calibration split that importance is measured on, whole rows."
    )

    TASKS: ClassVar[frozenset[str]] = frozenset({"text_generation"})
    CALIBRATED: ClassVar[bool] = True

    @property
    def searched(self) -> int | None:
        """How many layers are to stay, where the recipe leaves it to their loss which."""
        return self.layers if isinstance(self.layers, int) else None

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        heads, shared = self.num_attention_heads, self.num_key_value_heads
        if heads and shared and heads % shared:
            raise ValueError(
                f"num_attention_heads {heads} do not divide among num_key_value_heads {shared}; "
                f"write a multiple of {shared}, such as {max(1, heads // shared) * shared}"
            )
        return self


def problems(options: Options, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (the recipe's key, what is wrong) for all that keeps the student from being cut out of this teacher."""
    try:
        family_of(config)
        before = sizes_in(config)
        by_layers.chosen(_layers(options, config), layers_of(config))
    except ModelError as error:
        key, _, text = str(error).partition(": ")
        yield key, text
        if key == "student.kind":
            return
    larger = [name for name in WIDTHS if (getattr(options, name) or 0) > getattr(before, name)]
    for name in larger:
        most = getattr(before, name)
        yield f"student.{name}", f"{getattr(options, name)} is more than the teacher's {most}; write {most} or less"
    if not {"num_attention_heads", "num_key_value_heads"} & set(larger):
        yield from _head_problems(options, before)


def _head_problems(options: Options, before: DecoderSizes) -> Iterator[tuple[str, str]]:
    after = _sizes(options, before)
    heads, shared, sharing = after.num_attention_heads, after.num_key_value_heads, before.sharing
    if heads % shared == 0 and heads // shared <= sharing:
        return
    told = f"the teacher has {before.num_attention_heads}, {sharing} for each of its {before.num_key_value_heads}"
    fitting = sorted({shared * each for each in range(1, sharing + 1)})
    if options.num_attention_heads is None or options.num_key_value_heads is not None:
        yield (
            "student.num_attention_heads",
            f"{heads} do not go with {shared} heads of keys and values ({told}); write one of {_listed(fitting)}",
        )
        return
    groups = range(1, before.num_key_value_heads + 1)
    fitting = sorted({*fitting, *(sharing * group for group in groups)})
    yield (
        "student.num_attention_heads",
        f"{heads} neither divide among the teacher's {before.num_key_value_heads} heads of keys and values nor are "
        f"whole groups of {sharing} ({told}); write one of {_listed(fitting)}, or num_key_value_heads with it",
    )


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def make(options: Options, teacher: Path, labels: tuple[str, ...], folder: Path) -> Any:
    """Return a decoder of the chosen sizes, its weights cut out of the teacher's; with the teacher's, those.

    Args:
        teacher: the checkpoint to take the weights from.
        labels: none.
        folder: with what was measured of that very checkpoint, in IMPORTANCE, and in LAYERS where they were chosen.

    Raises:
        ModelError: the student cannot be cut out of this teacher.
    """
    from edgedistill.models.activation_importance import Importance
    from edgedistill.models.config_json import read_config
    from edgedistill.models.cut_decoder import CutDecoder, kept
    from edgedistill.models.layer_choice import LayerChoice

    written = read_config(teacher)
    before, after = _plan(options, written)
    importance = Importance.load(folder / IMPORTANCE)
    wanted = _layers(options, written)
    if options.searched not in (None, layers_of(written)):
        wanted = wanted.model_copy(update={"layers": LayerChoice.load(folder / LAYERS).layers})
    stay = by_layers.chosen(wanted, layers_of(written))
    cut = by_layers.make(wanted, teacher, labels, folder)
    family = family_of(written)
    parts = CutDecoder(
        whole=cut.model.state_dict(),
        family=family,
        before=before,
        kept=kept(importance, stay, before, after),
        shares=_renumbered(importance.shares, stay),
        tied=cut.model.get_output_embeddings().weight is cut.model.get_input_embeddings().weight,
    )
    config = deepcopy(cut.model.config)
    config.update(asdict(after))
    small = cut.around(type(cut.model)(config))
    small.model.load_state_dict(parts.state())
    return small


def anatomy(options: Options, config: Mapping[str, Any], classes: int, tokens: int) -> Anatomy:
    """Count the student without making it.

    Raises:
        ModelError: it cannot be cut out of this teacher.
    """
    _plan(options, config)
    layers = by_layers.chosen(_layers(options, config), layers_of(config))
    return of_decoder("student", {**config, **changed(options, config)}, len(layers), tokens)


def changed(options: Options, config: Mapping[str, Any]) -> dict[str, int]:
    """Return what config.json of the student says otherwise than its teacher's."""
    return asdict(_plan(options, config)[1])


def describe(options: Options) -> str:
    """Say in words what the student starts from."""
    widths = [name for name in WIDTHS if getattr(options, name) is not None]
    what = ", ".join(["layers"] * (options.layers is not None) + [name.removeprefix("num_") for name in widths])
    said = "its loss and its activations" if options.searched is not None else "its activations"
    return (
        f"the teacher's weights, pruned ({what.replace('_', ' ') or 'nothing'}) by what {said} on calibration text say"
    )


def _layers(options: Options, config: Mapping[str, Any]) -> by_layers.Options:
    """Return which layers stay, in the words of kind `layers`."""
    return by_layers.Options(kind="layers", layers=layers_of(config) if options.layers is None else options.layers)


def _sizes(options: Options, before: DecoderSizes) -> DecoderSizes:
    """Return the student's sizes, which may be none that it can have."""
    named = {name: getattr(options, name) for name in WIDTHS if getattr(options, name) is not None}
    heads, shared = named.get("num_attention_heads"), before.num_key_value_heads
    if "num_key_value_heads" not in named and heads is not None and heads % shared and heads % before.sharing == 0:
        named["num_key_value_heads"] = heads // before.sharing
    if heads is None and "num_key_value_heads" in named:
        named["num_attention_heads"] = named["num_key_value_heads"] * before.sharing
    return replace(before, **named)


def _plan(options: Options, config: Mapping[str, Any]) -> tuple[DecoderSizes, DecoderSizes]:
    """Return the teacher's sizes and the student's.

    Raises:
        ModelError: the student cannot be cut out of this teacher.
    """
    for key, text in problems(options, config):
        raise ModelError(f"{key}: {text}")
    before = sizes_in(config)
    return before, _sizes(options, before)


def _renumbered(shares: Mapping[str, Any], layers: tuple[int, ...]) -> dict[str, Any]:
    """Return what is known of norms under the names that they have once these layers are all that there are."""
    found = {name: share for name, share in shares.items() if not name.startswith("layers.")}
    for new, old in enumerate(layers):
        before = f"layers.{old}."
        found |= {f"layers.{new}.{n.removeprefix(before)}": of for n, of in shares.items() if n.startswith(before)}
    return found
