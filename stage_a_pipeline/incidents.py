"""A failed run in a short file, for people who were not there, and as JSON for whoever is to be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stage_a_pipeline.harmless_text import harmless
from stage_a_pipeline.storage import atomic_write, child_path, ensure_folder

RUNBOOK: Final = 'docs/runbook.md, "What to do when something fails"'
_FIRST_LINES: Final = 12
_TEXT_LIMIT: Final = 2000


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A step that failed: its error in one sentence, and the lines that say where it came from."""

    step: str
    error: str
    lines: tuple[str, ...] = ()
    is_ours: bool = False
    """Whether the error is one of errors.py, whose message names the remedy."""


@dataclass(frozen=True, slots=True)
class Incident:
    """A failed run. `missions` may be none: not every run has one."""

    run_id: str
    job: str
    time: datetime
    missions: tuple[str, ...]
    steps: tuple[FailedStep, ...]
    failed_checks: tuple[str, ...]
    message: str
    run_url: str
    log: Path | None = None

    @property
    def name(self) -> str:
        """The same for the same run, and in the order of time."""
        return f"{self.time.astimezone(UTC):%Y%m%dT%H%M%SZ}-{self.run_id}.md"

    @property
    def headline(self) -> str:
        """What failed, in one line."""
        return f"{self.subject} failed: {_one_line(self.error)}"

    @property
    def subject(self) -> str:
        """Whose run it was."""
        return ", ".join(self.missions) or self.job

    @property
    def error(self) -> str:
        """What the first failed step says, or the run where none did."""
        return self.steps[0].error if self.steps else self.message


def write_incident(folder: Path, incident: Incident) -> Path | None:
    """Write the incident's file into the folder; None when it is there already. Raises OutputError."""
    ensure_folder(folder)
    path = child_path(folder, incident.name)
    assert isinstance(path, Path)
    if path.exists():
        return None
    with atomic_write(path) as text:
        text.write("\n".join(_document(incident)) + "\n")
    return path


def to_json(incident: Incident, path: Path | None) -> dict[str, object]:
    """What is posted: `text` is for chat programs, the rest for programs that look closer."""
    return {
        "text": f"{incident.headline}\n{incident.run_url}",
        "run_id": incident.run_id,
        "run_url": incident.run_url,
        "job": incident.job,
        "missions": list(incident.missions),
        "step": incident.steps[0].step if incident.steps else None,
        "error": _clipped(incident.error),
        "failed_checks": list(incident.failed_checks),
        "time": incident.time.astimezone(UTC).isoformat(timespec="seconds"),
        "incident": None if path is None else str(path),
    }


def _document(incident: Incident) -> Iterator[str]:
    yield f"# {_one_line(incident.subject)}: run failed"
    yield ""
    yield f"- time: {incident.time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    yield f"- job: {_one_line(incident.job)}"
    yield f"- run: {incident.run_url}"
    if incident.log is not None:
        yield f"- log: {incident.log}"
    for step in incident.steps:
        yield from ("", f"## Step {_one_line(step.step)}", "")
        yield from _quoted([_clipped(step.error), *step.lines[:_FIRST_LINES]])
    if not incident.steps:
        yield from ("", "## No step failed", "")
        yield from _quoted([_clipped(incident.message)])
    if incident.failed_checks:
        yield from ("", "## Checks", "", *(f"- {_one_line(check)}" for check in incident.failed_checks))
    yield from ("", "## What to do", "")
    yield _what_to_do(incident)


def _what_to_do(incident: Incident) -> str:
    again = (
        "Then run the same again, in the UI by *Re-execute from failure*: finished photos are not asked "
        "twice, and the last good file stands until there is a better one."
    )
    if not incident.steps and not incident.failed_checks:
        cause = "The run's process ended without a word: look for a restart, a kill, or too little memory."
    elif incident.failed_checks:
        cause = "Do what the check above says."
    elif incident.steps[0].is_ours:
        cause = "Do what the message above says."
    else:
        cause = "This is no error that was foreseen: look at the log, and report it with this file."
    return f"{cause} {again} More: {RUNBOOK}."


def _quoted(lines: list[str]) -> Iterator[str]:
    """Lines as a block of code: nothing in them means anything to Markdown."""
    text = [harmless(part) for line in lines for part in line.splitlines()]
    return (f"    {line}" for line in text)


def _one_line(text: str) -> str:
    return harmless(" ".join(_clipped(text).split()))


def _clipped(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"
