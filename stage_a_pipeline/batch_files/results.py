"""Results of batch files: answers go to the journal, as if they had been given here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

from stage_a_pipeline.batch_files.journal import (
    open_journal,
    parse_custom_id,
    require_servers,
)
from stage_a_pipeline.engines.base import Completion
from stage_a_pipeline.engines.chat_messages import completion_of
from stage_a_pipeline.errors import EngineError, InputError, RecordError
from stage_a_pipeline.inference.asking import PhotoKey, Recipe, answer_defect
from stage_a_pipeline.inference.journal import Answer, Journal
from stage_a_pipeline.settings import Settings

_MOST_NAMED: Final = 5
_QUOTED: Final = 300
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Imported:
    """How many lines brought a usable answer, one that was known before, an unusable one, or an error.

    `foreign` ones were asked with other settings, prompts or missions than the present ones. `problems`
    are the first few in words.
    """

    answered: int = 0
    known: int = 0
    unusable: int = 0
    failed: int = 0
    foreign: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Lines that answer no photo."""
        return self.unusable + self.failed + self.foreign

    def tell(self, sentence: str) -> None:
        """Keep a problem, if it is among the first."""
        if len(self.problems) < _MOST_NAMED:
            self.problems.append(sentence)


def import_batch(
    files: Sequence[Path], recipes: Mapping[str, Recipe], settings: Settings, *, warn: Callable[[str], None]
) -> Imported:
    """Keep the answers of result files, in any order and as often as they come.

    Photos whose answer is unusable or missing stay to be asked. A line that is no result raises RecordError
    with file and line; what was read before it is kept. Raises InputError, LockedError and JournalError.
    """
    require_servers(settings)
    imported = Imported()
    missions = {recipe.fingerprint: mission for mission, recipe in recipes.items()}
    named = sorted(_missions_in(files, missions))
    with open_journal(settings, named, purpose="read batch results", tell=warn) as journal:
        for result in chain.from_iterable(map(_results, files)):
            _keep(result, missions, journal, imported)
    return imported


@dataclass(frozen=True, slots=True)
class _Result:
    place: str
    key: PhotoKey
    attempt: int
    document: Any
    error: str | None


def _missions_in(files: Iterable[Path], missions: Mapping[str, str]) -> set[str]:
    """The missions to which results belong: a run of any other may go on meanwhile."""
    named: set[str] = set()
    # What is wrong with a line is told when it is read for its answer, behind those before it.
    with suppress(RecordError):
        for result in chain.from_iterable(map(_results, files)):
            named.update(filter(None, [_mission_of(result, missions)]))
    return named


def _mission_of(result: _Result, missions: Mapping[str, str]) -> str | None:
    # A sampled answer's fingerprint is that of its run, followed by its photo's place.
    return missions.get(result.key[1].partition(":")[0])


def _keep(result: _Result, missions: Mapping[str, str], journal: Journal, imported: Imported) -> None:
    mission = _mission_of(result, missions)
    if mission is None:
        imported.foreign += 1
        imported.tell(f"{result.place}: asked with other settings, prompts or missions than the present ones")
    elif journal.knows(*result.key):
        imported.known += 1
    elif isinstance(completion := _completion(result), str):
        imported.failed += 1
        imported.tell(f"{result.place}: {completion}")
    else:
        _keep_answer(result, completion, mission, journal, imported)


def _completion(result: _Result) -> Completion | str:
    """The answer, or why there is none."""
    if result.error is not None:
        return result.error
    try:
        return completion_of(result.key[0], result.document)
    except EngineError as error:
        return str(error)


def _keep_answer(
    result: _Result,
    completion: Completion,
    mission: str,
    journal: Journal,
    imported: Imported,
) -> None:
    defect = answer_defect(completion)
    if defect is not None:
        imported.unusable += 1
        imported.tell(f"{result.place}: the answer is {defect}")
        journal.append_failure(mission, result.place, *result.key, reason=defect, attempts=result.attempt)
        return
    imported.answered += 1
    answer = Answer(
        completion.text,
        completion.finish_reason,
        completion.prompt_tokens,
        completion.generated_tokens,
        attempts=result.attempt,
    )
    journal.append_answer(mission, result.place, *result.key, answer)


def _results(path: Path) -> Iterator[_Result]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _result(line, path, number)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}; name the file of the results"
        ) from error


def _result(line: bytes, path: Path, number: int) -> _Result:
    def wrong(problem: str) -> RecordError:
        return RecordError("custom_id", problem, line=number, source=str(path))

    try:
        document = json.loads(line.removeprefix(_BOM))
    except (ValueError, RecursionError) as error:
        raise RecordError("line", f"is no JSON ({error})", line=number, source=str(path)) from error
    name = document.get("custom_id") if isinstance(document, dict) else None
    if not isinstance(name, str):
        raise wrong("is missing; name a file of results, as the queue gave it back")
    parsed = parse_custom_id(name)
    if parsed is None:
        raise wrong(f"{name[:_QUOTED]!r} was not made by `stage-a batch export`")
    response = document.get("response")
    return _Result(f"{path.name}, line {number}", *parsed, _body(response), _error(document, response))


def _body(response: object) -> object:
    """The chat completion; some queues give it as a text."""
    body = response.get("body") if isinstance(response, dict) else None
    if isinstance(body, str):
        with suppress(ValueError, RecursionError):
            return json.loads(body)
    return body


def _error(document: Mapping[str, object], response: object) -> str | None:
    """What the queue says went wrong with a question."""
    if failed := document.get("error"):
        return json.dumps(failed, ensure_ascii=False)[:_QUOTED]
    if not isinstance(response, dict):
        return "neither a response nor an error"
    status = response.get("status_code")
    if str(status) in ("200", "None"):
        return None
    return f"status {status}: {json.dumps(response.get('body'), ensure_ascii=False)[:_QUOTED]}"


def files_of(paths: Iterable[Path]) -> list[Path]:
    """The files, and for a folder those of the `.jsonl` files in it, by name. Raises InputError."""
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path} holds no *.jsonl; name the folder or the files of the results")
        files += found
    return files
