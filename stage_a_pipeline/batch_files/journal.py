"""The journal of answers that come in files, and what the lines of both files are called."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.inference.asking import PhotoKey
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.journal_lines import REJECTED, intact_lines, read_line
from stage_a_pipeline.inference.run_notes import Writer
from stage_a_pipeline.inference.shared_journals import shared_journals
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output

_SHARD: Final = "batch"
"""The name of the journal files."""

_AGAIN: Final = "again"
_CUSTOM_ID: Final = re.compile(rf"({_AGAIN}:)?([0-9a-f]{{64}}):([^\ud800-\udfff]+)", re.DOTALL)


def require_servers(settings: Settings) -> None:
    """ConfigurationError unless the answers are those of servers."""
    if settings.engine.engine != "openai":
        raise ConfigurationError(
            f"batch files hold questions for servers, and engine.engine is {settings.engine.engine!r}; "
            "set it to 'openai', and engine.server_model to the servers' name for the model"
        )


def custom_id(key: PhotoKey, *, attempt: int) -> str:
    """What a question is called: the journal's key, so that its answer is found by every later run.

    That of a second attempt says so before it.
    """
    return ":".join(key if attempt == 1 else (_AGAIN, *key))


def parse_custom_id(name: str) -> tuple[PhotoKey, int] | None:
    """The key that a question was called by, and the attempt; None for a name that is none of ours."""
    found = _CUSTOM_ID.fullmatch(name)
    return None if found is None else ((found[2], found[3]), 2 if found[1] else 1)


@contextmanager
def open_journal(
    settings: Settings, missions: Sequence[str], *, purpose: str, tell: Callable[[str], None]
) -> Iterator[Journal]:
    """The journal of these missions, which nobody else writes meanwhile, shared as that of a run is.

    `tell` hears what people should know. Raises LockedError, JournalError and what shared_journals raises.
    """
    work, run_id = settings.output.work_dir, f"{_SHARD}-{uuid.uuid4()}"
    with ExitStack() as held:
        for mission in missions:
            held.enter_context(claim_output(work / "locks", mission, run_id=run_id, purpose=purpose))
        held.enter_context(shared_journals(settings.output, Writer(_SHARD, missions, run_id, purpose), tell))
        journal = held.enter_context(Journal(work / "journal", _SHARD, missions))
        for notice in journal.notices:
            tell(notice)
        yield journal


def unusable_answers(settings: Settings, missions: Sequence[str]) -> dict[bytes, tuple[str, int]]:
    """By the journal's key, why the answer that came in a file cannot be used, and of which attempt it is.

    Whichever machine the file came to. Raises JournalError.
    """
    found: dict[bytes, tuple[str, int]] = {}
    for mission in missions:
        # Those of other machines have an origin in their names.
        for path in sorted((settings.output.work_dir / "journal" / mission).glob(f"{_SHARD}.*jsonl")):
            for key, unusable in _rejections(path):
                found[key] = max(found.get(key, ("", 0)), unusable, key=lambda each: each[1])
    return found


def _rejections(path: Path) -> Iterator[tuple[bytes, tuple[str, int]]]:
    with path.open("rb") as file:
        for line in intact_lines(path, opened=file):
            if line.status == REJECTED.encode():
                told = read_line(file, line.offset)
                yield line.key, (told["reason"], told["attempts"])
