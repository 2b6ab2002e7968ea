"""Section: what every part of a recipe has in common."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Part of a recipe: an unknown key is an error, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TaskOptions(Section):
    """What the model is for; one file of `tasks/` each."""

    kind: str
    max_length: int = Field(128, ge=4, le=8192, description="Tokens of the longest input; longer texts are cut.")
    LABELLED: ClassVar[bool] = True  # whether rows have a label from a list of labels
    SEVERAL: ClassVar[bool] = False  # whether a row may have several of them, or none
    GOLD_LOSS: ClassVar[str] = ""  # the loss that learns from gold labels; none where rows have none
    GOLD_IN_TEXT: ClassVar[bool] = False  # whether the texts themselves say what is right: decoders, token by token


class TeacherOptions(Section):
    """The model to learn from; one file of `teachers/` each."""

    kind: str
    SIGNALS: ClassVar[frozenset[str]] = frozenset()  # what a loss may ask of this kind of teacher
    TASKS: ClassVar[frozenset[str]] = frozenset()  # tasks that it can teach
    TOKEN_TABLE: ClassVar[bool] = False  # whether its checkpoint has a vector for each token, which can be read
    IN_PYTORCH: ClassVar[bool] = True  # whether its checkpoint has weights that PyTorch reads
    EXTRA: ClassVar[str] = ""  # of this package, where the kind needs one
    IMPORTS: ClassVar[tuple[str, ...]] = ()  # what that extra brings


class SourceOptions(Section):
    """Where rows come from; one file of `corpus/sources/` each."""

    source: str
    SEARCHED: ClassVar[bool] = False  # whether it holds queries, and documents that they search among
    CONVERSATIONS: ClassVar[bool] = False  # whether its texts are conversations, as JSON

    @property
    def unanswered(self) -> bool:
        """Whether its conversations are prompts: they end with the user, and a teacher is to answer."""
        return False


class VocabularyOptions(Section):
    """Which tokens the student keeps: those that the training texts need, and the parts of all others."""

    size: int | None = Field(None, ge=1, description="Most tokens kept, the most frequent ones; null sets no limit.")
    min_count: int = Field(
        1, ge=0, description="Fewest times that a kept token stands in the training texts; 0 fills up to size."
    )

    @model_validator(mode="after")
    def _drops_something(self) -> Self:
        if self.size is None and self.min_count == 0:
            raise ValueError("min_count: 0 without size keeps every token; give one of them, or leave vocabulary out")
        return self


class StudentOptions(Section):
    """The shape of the small model; one file of `models/students/` each."""

    kind: str
    vocabulary: VocabularyOptions | None = Field(
        None, description="Drop tokens that the training texts do not need; null keeps the whole vocabulary."
    )
    embedding_rank: int | None = Field(
        None, ge=1, description="Store the token table as (vocabulary, rank) times (rank, width); null keeps it whole."
    )
    TASKS: ClassVar[frozenset[str]] = frozenset()  # tasks this kind of student can do
    CALIBRATED: ClassVar[bool] = False  # whether the teacher's activations on calibration text say what it keeps
    TRAINING: ClassVar[Mapping[str, Any]] = {}  # what the distill section says for this kind unless the recipe does


class LossOptions(Section):
    """One term of what the student minimises; one file of `distill/losses/` each."""

    loss: str
    weight: float = Field(1.0, gt=0, description="Factor of this term in the sum.")
    NEEDS: ClassVar[frozenset[str]] = frozenset()  # signals, in the words of TeacherOptions.SIGNALS, or "gold"
    TASKS: ClassVar[frozenset[str]] = frozenset()  # tasks whose outputs it compares
    SPARSE: ClassVar[bool] = False  # whether it can do with what is known of a few tokens (`loss_of_known`)


Width = Literal["float32", "float16", "int8", "int4"]
Rounding = Annotated[
    Literal["nearest", "gptq"],
    Field(description="gptq: the codes of a linear layer are chosen together, for its calibration inputs."),
]


class MethodOptions(Section):
    """How weights become small; one file of `quantize/methods/` each."""

    method: str
    SCHEME: ClassVar[str] = ""  # the word that a format's STORES must hold
    TASKS: ClassVar[frozenset[str]] = frozenset()  # tasks whose models it makes small


class LayerOptions(MethodOptions):
    """What is said layer by layer, of the methods that make encoders small."""

    overrides: dict[str, Width] = Field(
        {},
        description="Layer name, with * and ?, to the width its weight gets instead; the first that fits counts. "
        "As int8, a linear layer rounds its input too.",
    )
    sensitivity: bool = Field(
        False, description="Also measure what each layer costs alone at each width; layers times widths passes."
    )
    TASKS: ClassVar[frozenset[str]] = frozenset(
        {"text_classification", "multi_label_classification", "sentence_embedding"}
    )


class FormatOptions(Section):
    """The layout of the shipped files; one file of `export/formats/` each."""

    format: str
    STORES: ClassVar[frozenset[str]] = frozenset()  # schemes this format can hold
    EXTRA: ClassVar[str] = ""  # of this package, where the format needs one
    IMPORTS: ClassVar[tuple[str, ...]] = ()  # what that extra brings
    TASKS: ClassVar[frozenset[str]] = frozenset(  # tasks whose models it lays out
        {"text_classification", "multi_label_classification", "sentence_embedding"}
    )
