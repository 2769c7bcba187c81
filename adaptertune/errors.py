"""The errors a user can cause or meet. Each says what is wrong, where, and what to do next.

AdapterTuneError
 ├── ConfigError       an option, a YAML file, a task or a recipe is wrong
 ├── DataError         a data set is missing, damaged or not what its task says
 ├── HubError          the hub can't be reached, lacks something, or a download is damaged
 ├── BackboneError     a pre-trained model is missing, damaged or of an unsupported kind
 ├── CheckpointError   a checkpoint is damaged or belongs to another base model
 ├── StoreError        a run folder is damaged or unwritable
 │    └── InUse        … or another process has it
 ├── TrainingError     a training can't go on, or no run came to a score
 │    └── DeviceLost   … or its process can't use the device any more
 └── Interrupted       stopped by SIGINT or SIGTERM with the state saved
"""

from __future__ import annotations

LONGEST = 1000  # characters of a part of a message
# What a RuntimeError says where memory is short: the CPU's allocator, CUDA's, cuBLAS, a file's mapping.
NO_MEMORY = (
    "DefaultCPUAllocator", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "Cannot allocate memory",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no memory left."""
    # torch's own error by its name, for planning does without torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, OSError | RuntimeError) and any(
        sign in str(error) for sign in NO_MEMORY
    )


def first_line(error: Exception) -> str:
    """Of what a foreign error says, which may be nothing."""
    return next(iter(str(error).strip().splitlines()), "no reason given")


def one_line(text: str) -> str:
    """Text that may quote a foreign file: no line breaks, no control or half characters, no megabyte."""
    line = " ".join(text[: LONGEST + 1].split())
    line = line if len(text) <= LONGEST else f"{line[:LONGEST]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class AdapterTuneError(Exception):
    """A failure that the user can mend. Printed as one line, never as a traceback.

    Args:
        what: what is wrong, without a full stop.
        where: the file, line, option or run that it concerns.
        remedy: what to do or type next.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.remedy = remedy

    def __str__(self) -> str:
        place = f"{one_line(self.where)}: " if self.where else ""
        remedy = f"; {one_line(self.remedy)}" if self.remedy else ""
        return f"{place}{one_line(self.what)}{remedy}"


class ConfigError(AdapterTuneError):
    """An option, a YAML file, a task or a recipe is wrong."""


class DataError(AdapterTuneError):
    """A data set is missing, damaged or not what its task says."""


class HubError(AdapterTuneError):
    """The hub can't be reached, lacks something, or a download is damaged."""


class BackboneError(AdapterTuneError):
    """A pre-trained model is missing, damaged or of an unsupported kind."""


class CheckpointError(AdapterTuneError):
    """A checkpoint is damaged or belongs to another base model."""


class StoreError(AdapterTuneError):
    """A run folder is damaged or unwritable."""


class InUse(StoreError):
    """Another process has a run folder."""


class TrainingError(AdapterTuneError):
    """A training can't go on; or no run came to a score, so there is nothing to report."""

    exit_code = 1


class DeviceLost(TrainingError):
    """This process can't use its device any more; a new one may."""


class Interrupted(AdapterTuneError):
    """Stopped by SIGINT or SIGTERM with the state saved; 130 is the shell's code for it."""

    exit_code = 130
