"""Every error the product raises on purpose.

StageAError
├── ConfigurationError (ValueError)   a setting, a mission table, a prompt file
│   └── CheckpointError               the checkpoint folder or its contents
├── InputError (ValueError)           the photo tree, the workbook or the truth sidecar as a whole
│   ├── DiscoveryError                a missing root, an unknown mission, nothing to do
│   │   └── NoMissionFolderError      a mission that has no folder in the root
│   ├── StaleTableError               a table that belongs to other groups or answers than its partner
│   ├── WorkbookError                 the reviewers' spreadsheet
│   └── ReassemblyError               patches, positions or models of a scan
├── StoreError                        an object store that cannot be read
├── PhotoError (ValueError)           one photo that cannot be used; rejects its group only
├── RecordError (ValueError)          one record that breaks the data contract
├── JournalError                      a journal that is damaged before its last line
├── OutputError                       a file that cannot be written
│   └── LockedError                   somebody else is writing it
├── EngineError                       one call of an engine that failed
│   ├── EngineOutOfMemoryError             too many photos at once for the device
│   └── EngineContractError           answers of the wrong number or for other requests
├── EngineDiedError                   an engine whose own processes ended; a new one must be loaded
├── ServerError                       servers that answer nothing, or refuse everything
├── WorkerError                       a worker process that died or hung, and that nothing replaces
├── ClusterError                      a Ray cluster that cannot be reached, or has no actor left
├── TrainingError                     a training that ended without an adapter
├── StoppedError                      a run that was asked to stop
├── FailureBudgetError                more groups rejected than the settings allow
└── UnpublishedError                  some missions of a run; the others were published

A message names the file or group, says what was wrong, and what to do about it.
"""

from __future__ import annotations


class StageAError(Exception):
    """Base of all errors that are meant for a user."""


class ConfigurationError(StageAError, ValueError):
    """A setting, a mission table or a prompt file that cannot be used."""


class CheckpointError(ConfigurationError):
    """A checkpoint that is missing, incomplete or of another architecture."""


class InputError(StageAError, ValueError):
    """The photo tree, the workbook or the truth sidecar as a whole cannot be used."""


class DiscoveryError(InputError):
    """A missing root, an unknown mission, or a tree with nothing to do."""


class NoMissionFolderError(DiscoveryError):
    """A mission that has no folder in the input root."""


class StaleTableError(InputError):
    """Two tables between assets that do not belong together: one of them is of another run."""


class WorkbookError(InputError):
    """A spreadsheet that is missing, unreadable, or without the expected columns."""


class ReassemblyError(InputError):
    """Patches, scan positions, an object or a model folder that cannot be used."""


class StoreError(StageAError):
    """An object store that cannot be read at all: no single photo is to blame, finished ones are kept."""


class PhotoError(StageAError, ValueError):
    """One photo that cannot be used. `reason` is a short stable code for tables."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[PhotoError], tuple[str, str]]:
        return type(self), (self.reason, str(self))


class RecordError(StageAError, ValueError):
    """A record that breaks the data contract: `field` names the place in it.

    `line` (from 1) and `source` (the file) where they are known.
    """

    def __init__(
        self, field: str, problem: str, *, line: int | None = None, source: str | None = None
    ) -> None:
        place = ", ".join(filter(None, (source, f"line {line}" if line is not None else None)))
        super().__init__(f"{place}: {field}: {problem}" if place else f"{field}: {problem}")
        self.field = field
        self.problem = problem
        self.line = line
        self.source = source

    def at_line(self, line: int, *, source: str | None = None) -> RecordError:
        """The same error, naming the line (from 1), and the file where it is not told elsewhere."""
        return RecordError(self.field, self.problem, line=line, source=source)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_record_error, (self.field, self.problem, self.line, self.source)


def _rebuild_record_error(field: str, problem: str, line: int | None, source: str | None) -> RecordError:
    return RecordError(field, problem, line=line, source=source)


class JournalError(StageAError):
    """A journal that is damaged anywhere but in its last line."""


class OutputError(StageAError):
    """A file or folder that cannot be written."""


class LockedError(OutputError):
    """Another process holds the lock; the message names it."""


class EngineError(StageAError):
    """One call of an engine failed; the batch may be split and tried again."""


class EngineOutOfMemoryError(EngineError):
    """The device has no room for this many photos at once."""


class EngineContractError(EngineError):
    """An engine returned the wrong number of answers, or answers to other requests."""


class EngineDiedError(StageAError):
    """The processes of a loaded engine ended: it answers nothing any more, whatever it is asked."""


class ServerError(StageAError):
    """Servers that an engine asks answer nothing, or refuse everything; finished photos are kept."""


class WorkerError(StageAError):
    """A worker process died or hung, and no device was left to go on; finished photos are kept."""


class ClusterError(StageAError):
    """The Ray cluster cannot be reached, or has no actor left to go on; finished photos are kept."""


class TrainingError(StageAError):
    """A training that died, diverged or changed what it must not; no adapter was kept."""


class StoppedError(StageAError):
    """The run was asked to stop; finished photos are kept."""

    def __init__(self) -> None:
        super().__init__("the run was stopped; finished photos are kept, run again to go on")


class FailureBudgetError(StageAError):
    """More groups were rejected than `max_failed_fraction` allows; nothing was published."""


class UnpublishedError(StageAError):
    """Several missions of one run that could not be published, each for its own cause."""


def error_of_kind(kind: str, message: str) -> StageAError:
    """The error that another process has raised, by the name of its class and its message."""
    found = globals().get(kind)
    if not (isinstance(found, type) and issubclass(found, StageAError)):
        return StageAError(message)
    try:
        return found(message)
    except TypeError:
        # Some are built of other things than their message.
        return StageAError(message)
