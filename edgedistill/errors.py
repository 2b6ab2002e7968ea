"""Everything that can go wrong and that a user can mend.

* EdgeDistillError         exit 1
  + RecipeError            the recipe or the call is wrong; nothing has run (exit 2)
    - UnknownChoice        a word names no file of its folder
    - FolderNotOurs        the output folder holds something that no build made
    - RunLocked            another process is building in this folder
  + StageError             a stage could not make its value (exit 1)
    - DataError            the texts or labels cannot be used
    - ModelError           a checkpoint cannot be used
    - TrainingError        training went wrong: a pre-flight check failed, a loss is not finite
    - QuantizationError    a weight cannot be stored in the scheme asked for
    - ParityError          an artifact does not compute what its checkpoint computes
    - CorruptStage         a finished stage's files are not what it wrote
  + GateError              everything ran; a number misses the recipe's budget (exit 3)

A bug in this project is none of these, and keeps its traceback.
"""

from collections.abc import Iterable


class EdgeDistillError(Exception):
    """Base class: the command line prints its text and exits with its `exit_code`."""

    exit_code = 1


class RecipeError(EdgeDistillError, ValueError):
    """The recipe or the call asks for something that cannot be."""

    exit_code = 2


class UnknownChoice(RecipeError):
    """A recipe's word names no file of its folder."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        self.kind, self.name, self.choices = kind, name, tuple(choices)
        super().__init__(f"unknown {kind} {name!r}; choose one of: {', '.join(self.choices)}")


class FolderNotOurs(RecipeError):
    """The output folder holds something that no build of this tool made."""


class RunLocked(RecipeError):
    """Another process is building in this run folder."""


class StageError(EdgeDistillError):
    """A stage could not make its value."""


class DataError(StageError):
    """The texts or labels cannot be used."""


class ModelError(StageError):
    """A checkpoint cannot be used."""


class TrainingError(StageError):
    """Training went wrong: a pre-flight check failed, or a loss is not finite."""


class QuantizationError(StageError):
    """A weight cannot be stored in the scheme asked for."""


class ParityError(StageError):
    """An artifact does not compute what its checkpoint computes."""

    def __init__(self, file: str, check: str, max_abs_diff: float, tolerance: float, where: str) -> None:
        self.file, self.check, self.max_abs_diff, self.tolerance = file, check, max_abs_diff, tolerance
        super().__init__(
            f"{file} disagrees with the checkpoint it was exported from ({check} check): "
            f"largest difference {max_abs_diff:.3g}, tolerance {tolerance:.3g}, on {where}"
        )


class CorruptStage(StageError):
    """A finished stage's files are not what the stage wrote."""


class GateError(EdgeDistillError):
    """A result misses the recipe's budget."""

    exit_code = 3
