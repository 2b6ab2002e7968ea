"""The values that stages hand to each other where the task is text generation; all else is in `values.py`.

A row is what a model reads in one go: a conversation, or a window of a document. A token *counts* where the model is to
say it: every token of a window but its first, in a conversation those of the assistant. A *position* is a counted
token; what is said of it is said by the logits one token before. Positions are numbered through all rows of a split.
"""

import numpy as np
from pydantic import Field

from edgedistill.student_values import OwnStart
from edgedistill.values import Check, Corpus, Metric, RelativePath, Sha256, StageValue, Training, Value

POSITION = np.dtype(
    [
        ("log_prob", "f4"),  # of the token that really follows, in nats
        ("top", "i4"),  # the likeliest token
        ("margin", "f4"),  # its logit minus the second likeliest's
        ("kl_teacher", "f4"),  # KL(teacher || this model), in nats
        ("kl_student", "f4"),  # KL(float student || this model); NaN where there is no float student yet
    ]
)
"""What is kept of a model at each position of a held-out split, (positions,) .npy."""


class Answers(Value):
    """What became of the prompts that the teacher was to answer."""

    file: RelativePath = Field(description="JSON Lines, one for each prompt as they were asked: what the teacher said.")
    made_from: int = Field(description="Rows of train with gold answers; those behind them are the teacher's.")
    rows: int = Field(ge=1, description="Prompts with a whole answer, which are rows of train now.")
    too_long: int = Field(ge=0, description="Left out: prompts that leave no room for an answer in a row.")
    cut_off: int = Field(ge=0, description="Left out: no end within max_tokens, or within the longest row.")
    empty: int = Field(ge=0, description="Left out: white space alone.")
    unreadable: int = Field(ge=0, description="Left out: special tokens in it, or bytes that are no character.")
    tokens: int = Field(description="Of all whole answers.")
    max_tokens: int | None
    batch_size: int = Field(ge=1, description="Prompts that were answered together.")
    temperature: float
    seed: int

    @property
    def prompts(self) -> int:
        """All that were asked."""
        return self.rows + self.too_long + self.cut_off + self.empty + self.unreadable


class AnsweredCorpus(Corpus):
    """A corpus whose train also holds conversations that the teacher answered, behind those with gold."""

    answers: Answers


def gold_rows(corpus: Corpus) -> int:
    """Return how many rows of train, the first ones, say what is right by themselves; behind them a teacher speaks."""
    return corpus.answers.made_from if isinstance(corpus, AnsweredCorpus) else corpus.splits["train"].rows


class DecoderSplit(Value):
    """One split as token ids; all files are memory-mapped .npy."""

    rows: int
    tokens: int
    positions: int = Field(description="Tokens that count.")
    token_ids: RelativePath = Field(description="(tokens,) int32, rows one after another.")
    offsets: RelativePath = Field(description="(rows + 1,) int64; row i is token_ids[offsets[i]:offsets[i + 1]].")
    counts: RelativePath = Field(description="(tokens,) bool; whether the token is one that the model is to say.")
    texts: RelativePath = Field(description="(rows,) int64; the row of the corpus' split that each row is cut from.")
    row_hashes: RelativePath = Field(description="(rows,) 16 ASCII bytes, that text's row_hash.")


class CachedLogits(Value):
    """What the teacher thinks of each position of a split, in little space: some tokens, each with a weight."""

    way: str = Field(description="sampled, top_k, dense")
    offsets: RelativePath = Field(description="(positions + 1,) int64 into the other two.")
    tokens: RelativePath = Field(
        description="int32; ids, -1 for all that are not named; empty where all are, in order."
    )
    weights: RelativePath = Field(
        description="float16 or uint8; of one position they are scaled to sum to 1 when read."
    )
    bytes_per_position: float
    moved_mass: float = Field(
        0.0,
        description="Mean probability of tokens that the student lacks, given to the pieces that these begin with.",
    )


class DecoderQuality(Value):
    """A model on a held-out split; intervals are over rows, which are drawn whole."""

    perplexity: Metric
    accuracy: Metric = Field(description="Positions whose token is the likeliest one.")
    kl_teacher: Metric | None = Field(description="Mean over positions, in nats; None for the teacher itself.")
    kl_teacher_p99: float | None
    agreement_teacher: Metric | None = Field(description="Positions with the teacher's likeliest token.")
    kl_student: Metric | None = Field(description="From the float student; None where there is none to compare with.")
    kl_student_p99: float | None
    agreement_student: Metric | None
    retained: Metric | None = Field(
        None,
        description="What it is judged by over the teacher's, same rows, paired; None for the teacher, or where the "
        "teacher is so rarely right that the ratio has no interval.",
    )
    exact_match: Metric | None = Field(
        None,
        description="Conversations whose every token of the assistant is the likeliest one, which are those that "
        "greedy decoding answers as gold does; None for documents.",
    )

    @property
    def judged(self) -> Metric:
        """What the model is judged by: whole answers where there are any, else the next token."""
        return self.accuracy if self.exact_match is None else self.exact_match

    @property
    def metric(self) -> str:
        """What it is judged by, in words."""
        return "next-token accuracy" if self.exact_match is None else "exact match"


class DecoderEvaluation(Value):
    """What a model says of the held-out splits."""

    positions: dict[str, RelativePath] = Field(description="split -> (positions,) of POSITION, .npy")
    quality: dict[str, DecoderQuality]


class DecoderTokenSplit(Value):
    """One split before and after tokens were dropped; every text is decoded again, and is then what it was.

    A passage is a sentence or a line of a document, or a whole conversation, read by itself.
    """

    texts: int
    tokens: int = Field(description="With the kept tokens alone.")
    whole_tokens: int = Field(description="With the whole vocabulary.")
    dropped_tokens: int = Field(description="Those of them that were dropped, and are now spelt in pieces.")
    passages: int
    proven_passages: int = Field(
        description="Passages that need only kept tokens: each is read as before, or it is an error."
    )
    identical_passages: int = Field(description="Passages read as before.")


class DecoderTokens(StageValue):
    """The teacher with the tokens alone that the student keeps: its tokenizer, and what students are made from."""

    checkpoint: RelativePath = Field(description="Folder with the teacher's weights, without the dropped rows.")
    base: RelativePath | None = Field(description="The same of what the teacher was before it was fitted.")
    kept: RelativePath = Field(description="(vocabulary,) int64 .npy, ascending: each token's id before.")
    first: RelativePath = Field(
        description="(whole vocabulary,) int64 .npy: the kept token that each old one is read to begin with; -1: none."
    )
    vocabulary: int = Field(description="Tokens that are kept.")
    whole_vocabulary: int = Field(description="The teacher's.")
    seen_in_train: int = Field(description="Tokens of the teacher's that occur in the training texts.")
    parameters: int = Field(description="Of the teacher without the dropped rows.")
    tokenizer_sha256: Sha256
    splits: dict[str, DecoderTokenSplit]


class OwnReading(Value):
    """The teacher on the same bytes of a held-out split, in its own tokens and in the kept ones; nats a byte."""

    bytes: int
    tokens: int = Field(description="The kept ones that were compared.")
    whole_tokens: int = Field(description="Its own.")
    loss: Metric = Field(description="Its mean loss in kept tokens.")
    whole_loss: Metric = Field(description="The same in its own: what it says when users run it.")
    difference: Metric = Field(description="The first minus the second, paired: what reading in kept tokens costs it.")


class WholeVocabulary(Value):
    """How a teacher of more tokens speaks in the kept ones."""

    size: int = Field(description="Ids of the teacher's tokenizer.")
    kept: RelativePath = Field(description="As DecoderTokens has it.")
    first: RelativePath = Field(description="As DecoderTokens has it.")
    readings: dict[str, OwnReading] = Field(description="By held-out split.")


class ReadAlike(Value):
    """The proof that a teacher's runtime reads texts as the ids that its rows are made of: all of them, or an error."""

    corpus_texts: int
    odd_texts: int
    conversations: int = Field(description="Rendered by both as the same ids; 0 where the task has documents.")


class DecoderSignals(StageValue):
    """The corpus as the teacher reads it, and what it thinks of what follows."""

    task: str
    conversations: bool = Field(description="A row is a conversation, so that its answers can be judged whole.")
    splits: dict[str, DecoderSplit]
    logits: dict[str, CachedLogits] = Field(description="Of train and validation: what the student learns from.")
    reference: dict[str, RelativePath] = Field(
        description="held-out split -> (positions, vocabulary) float16 log-probabilities of the teacher, .npy"
    )
    evaluation: DecoderEvaluation = Field(description="The teacher's own.")
    vocabulary: int = Field(description="Ids that the tokenizer knows; the model may have more rows, which none reads.")
    tokenizer_sha256: Sha256
    pad_token_id: int
    teacher_weights_sha256: Sha256
    seconds: float
    whole: WholeVocabulary | None = Field(
        None, description="The teacher has more tokens than all of this is said in; None: both have the same."
    )
    read_alike: ReadAlike | None = Field(None, description="Of a teacher in another runtime than PyTorch; else None.")


class Unpacked(Value):
    """A teacher's quantized weights as floats, for a student that is cut out of them."""

    checkpoint: RelativePath = Field(description="Folder with config.json, model.safetensors and tokenizer files.")
    positions: int = Field(description="Calibration positions at which it was held against the file in its runtime.")
    kl: float = Field(description="Mean KL(these weights in PyTorch || the file in its runtime), in nats.")
    agreement: float = Field(description="Positions with the same likeliest token.")


class DecoderStart(StageValue):
    """What a student starts from beside its teacher: a checkpoint of its own, or what was measured of the teacher."""

    start: OwnStart | None = Field(description="The student's own checkpoint; None where it starts from the teacher's.")
    compared_texts: int = Field(description="Texts that its own tokenizer and the teacher's read as the same ids.")
    importance: dict[str, RelativePath] = Field(
        description="Checkpoint of the teacher -> folder with the importance of its parts; empty where none is wanted."
    )
    calibration_tokens: int = Field(description="That importance was measured on.")
    layers: tuple[int, ...] = Field(
        (), description="Of the teacher's, chosen by the loss without them; empty where the recipe names them."
    )
    layer_losses: tuple[float, ...] = Field(
        (), description="Of the whole teacher, then after each layer that went, in nats a token; before any training."
    )
    seconds: float
    unpacked: Unpacked | None = Field(
        None, description="Of a teacher without weights that PyTorch reads, where needed."
    )


class DecoderStudent(StageValue):
    """A small language model that learned from the teacher."""

    kind: str
    checkpoint: RelativePath = Field(description="Folder with config.json, model.safetensors and tokenizer files.")
    initialised_from: str
    parameters: int
    weights_bytes: int
    training: Training
    preflight: tuple[Check, ...]
    evaluation: DecoderEvaluation
    reference: dict[str, RelativePath] = Field(
        description="held-out split -> (positions, vocabulary) float16 log-probabilities of the student, .npy"
    )
    weights_sha256: Sha256


class DecoderRepeat(Value):
    """Student and control once more, with another seed; neither is shipped."""

    seed: int
    student: DecoderEvaluation
    no_teacher: DecoderEvaluation


class DecoderControls(StageValue):
    """What tells distillation from quality that comes for free, and from luck with the seed."""

    no_teacher: DecoderEvaluation | None = Field(description="The same student, trained on the texts alone.")
    no_teacher_training: Training | None
    untrained: DecoderEvaluation | None = Field(description="The student as it is cut from the teacher.")
    unfitted: DecoderEvaluation | None = Field(None, description="The teacher before its fit; None without one.")
    repeats: tuple[DecoderRepeat, ...]
    skipped: str | None = Field(description="Why there are none, in words; None where all ran.")


class TensorFacts(Value):
    """One tensor, as it is stored."""

    name: str
    shape: tuple[int, ...]
    type: str = Field(description="In the words of its runtime: F32, F16, Q8_0, Q4_K, INT4_32, ...")
    wanted: str = Field(description="The type that the scheme has for it; another one where its rows do not divide.")
    reason: str = Field(description="Why it is not the wanted one; empty where it is.")
    stored_bytes: int
    relative_error: float = Field(
        ge=0, description="Root of the mean square of what was rounded off, over the weight's."
    )


class MeasuredImportance(StageValue):
    """How strongly each column of a student's weights is felt over calibration text."""

    file: RelativePath = Field(description="safetensors: weight name -> (columns,) float32, mean square of its inputs.")
    sha256: Sha256
    positions: int = Field(description="Calibration tokens.")
    seconds: float


class HeldByGate(Value):
    """How near to the float student the rounded weights stay on the validation split, and how near they had to."""

    max_kl: float
    max_metric_loss: float
    kl: Metric = Field(description="From the float student, in nats a token.")
    metric_loss: Metric = Field(description="Share of right next tokens: the float student's less theirs.")
    answer_loss: Metric | None = Field(None, description="Of conversations, the same of answers that are right whole.")


class DecoderRung(Value):
    """One try to pass the gate."""

    name: str = Field(description="What was changed, in words; the first rung is the recipe itself.")
    stored_bytes: int = Field(description="All tensors of the model.")
    kl: Metric = Field(description="From the float student on validation, in nats a token.")
    metric_loss: Metric = Field(description="As `HeldByGate` has it.")
    answer_loss: Metric | None = Field(None, description="As `HeldByGate` has it.")
    passed: bool
    kept: bool = Field(description="The next rung builds on this one.")


class QuantizedDecoder(StageValue):
    """A student whose every stored number is decided."""

    method: str = Field(description="The recipe's word, such as q4_k_m.")
    tensors: tuple[TensorFacts, ...]
    weights: RelativePath = Field(description="safetensors, as models/ggml_tensors.py or block_tensors.py writes it.")
    weights_bytes: int
    weights_sha256: Sha256
    bits_per_weight: float
    importance_positions: int = Field(
        description="Calibration tokens whose importance matrix decided its numbers; 0 where none did."
    )
    gate: HeldByGate | None = Field(description="None where the recipe wants none.")
    rungs: tuple[DecoderRung, ...] = Field((), description="Every try, in order; empty without a gate.")
    repaired: str = Field("", description="Which tensors got 8 bits to pass the gate; empty where none had to.")
    evaluation: DecoderEvaluation = Field(description="Of the rounded weights in PyTorch, activations as they are.")


class DecoderParity(Value):
    """The proof that export changed no number, and how far the runtime is from the numbers that were decided."""

    weights_bit_equal: bool = Field(description="Every stored block, scale and float equals what quantize decided.")
    tokenizer_texts: int = Field(description="Texts that checkpoint and runtime read as the same ids.")
    conversations: int = Field(description="Conversations that both render as the same ids; 0 without a template.")
    positions: int = Field(description="Held-out positions that both were asked about.")
    kl_exact: float | None = Field(
        None,
        description="Mean KL(rounded weights in PyTorch || the same file where its runtime rounds no activation), in "
        "nats; None where it has no such way.",
    )
    kl: float = Field(description="Mean KL(rounded weights in PyTorch || file in its runtime), in nats.")
    kl_limit: float
    agreement: float = Field(description="Positions with the same likeliest token.")
    sure_agreement: float = Field(description="The same of those where the likeliest leads by 1 or more, in logits.")
    sure_limit: float


class DecoderFile(Value):
    """One model file of an artifact."""

    name: str = Field(description="float32, or the quantization method.")
    file: RelativePath = Field(description="Relative to the artifact's folder; a folder where the runtime loads one.")
    sha256: Sha256 = Field(description="Of the file's bytes, or of a folder's names and hashes.")
    size_bytes: int = Field(gt=0, description="Of graph and numbers.")
    beside_bytes: int = Field(0, description="Of what else is in its own folder: tokenizer, template, settings.")
    bits_per_weight: float
    parity: DecoderParity


class DecoderArtifact(StageValue):
    """A folder that stock tools load with nothing of ours."""

    format: str
    runtime: str = Field(description="A word of runtimes/.")
    root: RelativePath = Field(description="The folder to ship, inside the stage's folder.")
    files: tuple[DecoderFile, ...]
    shared_files: dict[str, Sha256] = Field(description="Licence and notice: what every file needs beside it.")
    shared_bytes: int
    teacher: DecoderFile | None = Field(
        description="The teacher in the same format, to compare against; never shipped. None where it is a GGUF file."
    )
    teacher_root: RelativePath | None
    recipe_sha256: Sha256 = Field(description="Of the recipe sections that decide the files' bytes.")
