"""What is settled between signals and student: how it reads the texts, and with which temperature it learns."""

from pydantic import Field

from edgedistill.values import Metric, RelativePath, Sha256, StageValue, Value


class Trial(Value):
    """A short training with one temperature and one mixing weight, judged on the validation split."""

    temperature: float
    soft_weight: float = Field(description="Of forward_kl, in its sum with cross_entropy.")
    metric: Metric
    agreement: float = Field(description="Share of texts on which student and teacher name the same class.")
    divergence: float = Field(description="KL(teacher || student) at temperature 1, mean over the texts, in nats.")
    best_epoch: int
    behind: Metric | None = Field(description="The chosen trial's metric minus this one's, paired; None for itself.")


class Search(StageValue):
    """The temperature and the mixing weight that student and controls are trained with, and all that were tried."""

    trials: tuple[Trial, ...] = Field(min_length=1, description="The first one has the recipe's own values.")
    chosen: int = Field(ge=0, description="Place of the best trial.")
    epochs: int = Field(description="Of each trial.")
    seconds: float = Field(description="Wall time of all trials, over all interruptions.")
    warning: str | None = Field(description="Why the choice may be luck; None where it is clear, or the recipe's own.")


class TokenSplit(Value):
    """One split as the student reads it, row for row the teacher's; both files are memory-mapped .npy."""

    rows: int
    token_ids: RelativePath = Field(description="(tokens of all rows,) int32, rows one after another.")
    offsets: RelativePath = Field(description="(rows + 1,) int64; row i is token_ids[offsets[i]:offsets[i + 1]].")
    tokens_per_text: float = Field(description="Mean, as the student reads.")
    whole_tokens_per_text: float = Field(description="Mean, as its tokenizer reads before tokens are dropped.")
    teacher_tokens_per_text: float = Field(description="Mean, as the teacher reads.")
    unknown_share: float = Field(description="Share of the student's tokens that stand for what it cannot read.")
    whole_unknown_share: float = Field(description="The same before tokens are dropped.")
    identical_rows: int = Field(description="Rows read as before tokens were dropped.")
    proven_rows: int = Field(description="Those of them that need only kept tokens, and had to be read so.")


class OwnStart(Value):
    """The checkpoint that a student starts from instead of the teacher's."""

    checkpoint: RelativePath = Field(description="Folder with config.json, weights and tokenizer, as they came.")
    source: str = Field(description="Where it came from, as a person would cite it.")
    licence: str
    weights_sha256: Sha256


class Tokens(StageValue):
    """The corpus as the student reads it, which is as the teacher does unless tokens were dropped or it has its own."""

    tokenizer: RelativePath = Field(description="Folder with the student's tokenizer files.")
    tokenizer_sha256: Sha256 = Field(description="Of its tokenizer.json.")
    pad_token_id: int = Field(description="What shorter rows of a batch are filled with.")
    splits: dict[str, TokenSplit]
    start: OwnStart | None = Field(description="The student's own checkpoint; None where it starts from the teacher's.")
    kept: RelativePath | None = Field(
        description="(vocabulary,) int64 .npy, ascending: each token's id before others were dropped; None: none were."
    )
    vocabulary: int = Field(description="Rows of the student's token table.")
    whole_vocabulary: int = Field(description="The same before tokens were dropped.")
    seen_in_train: int = Field(description="Tokens of the whole vocabulary that occur in the training texts.")

    @property
    def as_teacher(self) -> bool:
        """Whether the student reads exactly as the teacher does."""
        return self.start is None and self.kept is None
