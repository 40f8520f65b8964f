"""Questions as batch files: for every photo that has no answer yet, one line."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Final

from stage_a_pipeline.batch_files.journal import custom_id, open_journal, require_servers, unusable_answers
from stage_a_pipeline.engines import generation_options
from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.chat_messages import EncodedPhoto, chat_body
from stage_a_pipeline.engines.openai import OpenAIEngine
from stage_a_pipeline.inference.answer_index import answer_key
from stage_a_pipeline.inference.asking import (
    BatchingOptions,
    PhotoKey,
    Questions,
    Recipe,
    Watch,
    request_id,
    retry_options,
)
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.inference.photos_ahead import Photo, PhotosAhead
from stage_a_pipeline.photo_source import photo_source
from stage_a_pipeline.records import Group, Rejection
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import atomic_write, ensure_folder

_PATH: Final = "/v1/chat/completions"
_WINDOW: Final = 32
_DECODERS: Final = 2
_MOST_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a queue takes in one file, `size` in bytes. The defaults are OpenAI's."""

    requests: int = 50_000
    size: int = 200_000_000


@dataclass(frozen=True, slots=True)
class PublishedPhotos:
    """Where photos are written as the model shall see them, and the URL below which servers find them."""

    folder: Path
    url: str


@dataclass(frozen=True, slots=True)
class Exported:
    """The files, and how many photos are in them, have an answer already, and cannot be read.

    `again` of those in them have been asked before, and their answer could not be used. `given_up` have been
    asked twice: the next run asks them for the last time.
    """

    files: tuple[Path, ...]
    asked: int
    again: int
    given_up: int
    answered: int
    rejected: int


def export_batch(
    groups: Sequence[Group],
    recipes: Mapping[str, Recipe],
    settings: Settings,
    path: Path,
    *,
    limits: BatchLimits,
    warn: Callable[[str], None],
    published: PublishedPhotos | None = None,
) -> Exported:
    """Write the questions of all photos without an answer, in files beside `path` that are numbered.

    Photos are in the lines themselves, or `published`. Of photos with the same bytes, one is asked. A file
    is complete or absent; where one cannot be written, those before it stay. Raises ConfigurationError,
    LockedError, OutputError and JournalError.
    """
    require_servers(settings)
    missions = list(recipes)
    with open_journal(settings, missions, purpose="write a batch file", tell=warn) as journal:
        questions = _Questions(recipes, settings, unusable_answers(settings, missions), published)
        with closing(OpenAIEngine(settings.engine)) as engine:
            lines = questions.lines(groups, engine, journal, warn)
            files = tuple(_write_parts(lines, path, limits))
    if left := _later_parts(path, len(files)):
        warn(f"{', '.join(map(str, left))}: written by an earlier export, not by this one; remove them")
    counts = questions.counts
    return Exported(
        files,
        asked=counts["asked"],
        again=counts["again"],
        given_up=counts["given up"],
        answered=counts["answered"],
        rejected=counts["rejected"],
    )


class _Questions:
    """The lines of photos, and in `counts` what became of all others."""

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        settings: Settings,
        unusable: Mapping[bytes, tuple[str, int]],
        published: PublishedPhotos | None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._options = generation_options(settings.engine)
        self._questions = Questions(recipes, greedy=self._options.greedy)
        self._unusable = unusable
        self._published = published

    def lines(
        self, groups: Sequence[Group], engine: OpenAIEngine, journal: Journal, warn: Callable[[str], None]
    ) -> Iterator[bytes]:
        """One line per photo that must be asked."""
        (refs,) = deal_out(enumerate(groups), shards=1, mode="per_group")
        batching = BatchingOptions(_WINDOW, decode_workers=_DECODERS)
        ahead = PhotosAhead(
            engine,
            journal,
            self._questions,
            batching,
            photos=photo_source(self._settings),
            watch=Watch(),
            metrics=ShardMetrics(),
            clock=time.monotonic,
        )
        asked: set[PhotoKey] = set()
        with closing(ahead.of(refs)) as photos:
            for item in photos:
                photo = _askable(item)
                if isinstance(photo, str):
                    self.counts["rejected"] += 1
                    warn(f"photo left out {photo}")
                elif (key := self._key(photo)) in asked:
                    continue
                elif journal.knows(*key):
                    self.counts["answered"] += 1
                elif (attempt := self._attempts(key) + 1) > _MOST_ATTEMPTS:
                    self.counts["given up"] += 1
                else:
                    asked.add(key)
                    self.counts["asked"] += 1
                    self.counts["again"] += attempt - 1
                    yield self._line(photo, key, attempt)

    def _line(self, photo: Photo, key: PhotoKey, attempt: int) -> bytes:
        assert isinstance(photo.pixels, EncodedPhoto)
        recipe = self._questions.recipe(photo.ref)
        request = Request(request_id(photo.ref), photo.pixels, recipe.prompt, recipe.grammar)
        engine = self._settings.engine
        assert engine.server_model is not None
        body = chat_body(
            request,
            self._options_for(key, attempt),
            model=engine.server_model,
            dialect=engine.server_dialect,
            photo_url=self._publish(photo.pixels, photo.content_sha256),
        )
        question = {
            "custom_id": custom_id(key, attempt=attempt),
            "method": "POST",
            "url": _PATH,
            "body": body,
        }
        return json.dumps(question, ensure_ascii=False).encode() + b"\n"

    def _attempts(self, key: PhotoKey) -> int:
        """How often a photo's answer came in a file and could not be used."""
        return self._unusable.get(answer_key(*key), ("", 0))[1]

    def _options_for(self, key: PhotoKey, attempt: int) -> GenerationOptions:
        """Those of a second try where the first answer could not be used, as in a run."""
        if attempt == 1:
            return self._options
        reason, _ = self._unusable[answer_key(*key)]
        return retry_options(self._options, reason)

    def _publish(self, photo: EncodedPhoto, content_sha256: str) -> str | None:
        if self._published is None:
            return None
        name = f"{content_sha256}-{photo.size[0]}x{photo.size[1]}.png"
        with atomic_write(ensure_folder(self._published.folder) / name, "wb") as file:
            file.write(photo.png)
        return f"{self._published.url.rstrip('/')}/{name}"

    def _key(self, photo: Photo) -> PhotoKey:
        return photo.content_sha256, self._questions.fingerprint(photo.ref)


def _askable(item: Photo | Rejection) -> Photo | str:
    """The photo, or why it cannot be asked about in a file."""
    if isinstance(item, Rejection):
        return f"({item.reason}): {item.detail}"
    name = request_id(item.ref)
    if item.suspect is not None:
        return f"(crashed): {name}: a worker process died over it; a run asks for it alone"
    return item if item.failure is None else f"({item.failure.reason}): {name}: {item.failure.detail}"


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number:04}{path.suffix}")


def _later_parts(path: Path, number: int) -> list[Path]:
    """Parts behind that one which lie there."""
    numbered = (_part(path, later) for later in count(number + 1))
    return list(takewhile(Path.exists, numbered))


def _write_parts(lines: Iterator[bytes], path: Path, limits: BatchLimits) -> Iterator[Path]:
    """The files that were written, named as `path` with numbers from 1."""
    number, line = 0, next(lines, None)
    while line is not None:
        number += 1
        part = _part(path, number)
        with atomic_write(part, "wb") as file:
            size = lines_in = 0
            while line is not None and (
                not lines_in or (lines_in < limits.requests and size + len(line) <= limits.size)
            ):
                size, lines_in = size + file.write(line), lines_in + 1
                line = next(lines, None)
        yield part
