"""What the served engine takes from a server's speed: a shard against a bare asynchronous client.

The client is handed the same requests, encoded, and keeps as many under way, over connections that it uses
again. The shard reads, decodes and encodes the photos, asks, checks the answers and writes a journal. A first
run of the client is not measured, so that the server's caches are as warm for both; then they take turns.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Final

import httpx
from rich.console import Console

from stage_a_pipeline.bench.photo_files import MISSION, photo_refs, write_photos
from stage_a_pipeline.bench.scratch import scratch_folder
from stage_a_pipeline.bench.workload import plan_photos
from stage_a_pipeline.engines import GenerationOptions, Request, generation_options
from stage_a_pipeline.engines.chat_messages import chat_body, completion_of
from stage_a_pipeline.engines.openai import OpenAIEngine
from stage_a_pipeline.engines.server_exchange import api_root, read_api_key
from stage_a_pipeline.errors import ConfigurationError, EngineError, StageAError
from stage_a_pipeline.images import decode_photo
from stage_a_pipeline.inference.asking import BatchingOptions, Recipe, request_id
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.scheduler import ShardScheduler
from stage_a_pipeline.inference.shard import batching_options, mission_recipe
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.photo_source import ON_DISK
from stage_a_pipeline.records import ImageRef
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import atomic_write

Answers = Mapping[str, str | None]
"""The raw answers by request; None where there is none."""

_TIMEOUT_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class ServedRound:
    """Wall seconds of both over all photos, and the photos that got the same text from both."""

    bare_seconds: float
    shard_seconds: float
    same: int


@dataclass(frozen=True, slots=True)
class ServedComparison:
    """What both took for so many photos, so many of them under way at once."""

    photos: int
    at_once: int
    rounds: tuple[ServedRound, ...]

    @property
    def share(self) -> float:
        """The shard's rate as a share of the client's: of the medians."""
        return self.median("bare_seconds") / self.median("shard_seconds")

    @property
    def same_text(self) -> float:
        """The share of photos that got the same text. Servers may say otherwise in another batch."""
        return sum(each.same for each in self.rounds) / (self.photos * len(self.rounds))

    def median(self, name: str) -> float:
        """That of one of a round's figures."""
        return float(median(getattr(each, name) for each in self.rounds))


@dataclass(frozen=True, slots=True)
class _Work:
    """The photos, and how they are asked."""

    settings: Settings
    refs: Sequence[ImageRef]
    recipe: Recipe
    generation: GenerationOptions
    batching: BatchingOptions


def compare_served(
    settings: Settings, *, photos: int, size: tuple[int, int], rounds: int, seed: int = 7
) -> ServedComparison:
    """Ask the servers of these settings for rendered photos of that width and height.

    Raises ConfigurationError for another engine, and StageAError where a server does not answer.
    """
    if settings.engine.engine != "openai":
        raise ConfigurationError(
            "engine.engine must be 'openai', with the server to be measured; see --settings"
        )
    planned = plan_photos(photos=photos, groups=None, sizes=[size], median_answer=None, seed=seed)
    with scratch_folder() as scratch:
        write_photos(scratch / "photos", planned, seed=seed)
        work = _Work(
            settings,
            photo_refs(scratch / "photos", planned),
            mission_recipe(load_missions()[MISSION], settings),
            generation_options(settings.engine),
            batching_options(settings, "cpu"),
        )
        bodies = _bodies(work)
        asyncio.run(_ask_bare(work, bodies))
        measured = [_round(work, bodies, scratch / f"journal-{turn}") for turn in range(rounds)]
    return ServedComparison(len(work.refs), work.batching.batch_size, tuple(measured))


def print_served(comparison: ServedComparison, json_file: Path | None) -> None:
    """Show the figures, and write them as JSON where asked."""
    bare, shard = comparison.median("bare_seconds"), comparison.median("shard_seconds")
    Console().print(
        f"{comparison.photos} photos, {comparison.at_once} at once: bare client {bare:.2f} s "
        f"({comparison.photos / bare:.2f} photos/s), shard {shard:.2f} s ({comparison.photos / shard:.2f} "
        f"photos/s): {comparison.share:.1%} of the client's rate; "
        f"{comparison.same_text:.1%} of the texts equal",
        soft_wrap=True,
    )
    if json_file is not None:
        machine = {"system": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()}
        shares = {"share": comparison.share, "same_text": comparison.same_text}
        with atomic_write(json_file) as file:
            json.dump({**asdict(comparison), **shares, "machine": machine}, file, indent=2)
            file.write("\n")


def _round(work: _Work, bodies: Mapping[str, bytes], journal_dir: Path) -> ServedRound:
    started = time.perf_counter()
    bare = asyncio.run(_ask_bare(work, bodies))
    bare_seconds = time.perf_counter() - started
    started = time.perf_counter()
    shard = _run_shard(work, journal_dir)
    shard_seconds = time.perf_counter() - started
    same = sum(shard[name] == text for name, text in bare.items())
    return ServedRound(bare_seconds, shard_seconds, same)


def _bodies(work: _Work) -> dict[str, bytes]:
    """The encoded requests, by their ids."""
    engine = work.settings.engine
    assert engine.server_model is not None
    bodies = {}
    with closing(OpenAIEngine(engine)) as served:
        fit = partial(served.target_size, max_pixels=work.recipe.max_pixels)
        for ref in work.refs:
            image = decode_photo(ON_DISK.read(ref.image.path), fit=fit, decode=work.recipe.decode)
            request = Request(request_id(ref), served.prepare(image), work.recipe.prompt, work.recipe.grammar)
            body = chat_body(
                request, work.generation, model=engine.server_model, dialect=engine.server_dialect
            )
            bodies[request.id] = json.dumps(body, ensure_ascii=False).encode()
    return bodies


async def _ask_bare(work: _Work, bodies: Mapping[str, bytes]) -> Answers:
    key = read_api_key()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    at_once = work.batching.batch_size
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    urls = cycle(f"{api_root(url)}/chat/completions" for url in work.settings.engine.server_urls)
    waiting, answers = iter(bodies.items()), dict[str, str | None]()
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=_TIMEOUT_SECONDS) as client:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(_keep_asking(client, urls, waiting, answers))
        except* (httpx.HTTPError, ValueError, EngineError) as errors:
            cause = errors.exceptions[0]
            raise StageAError(
                f"the bare client got no answer ({type(cause).__name__}: {cause}); look at the server's log, "
                "and correct the settings of the engine"
            ) from cause
    return answers


async def _keep_asking(
    client: httpx.AsyncClient,
    urls: Iterator[str],
    waiting: Iterator[tuple[str, bytes]],
    answers: dict[str, str | None],
) -> None:
    for name, body in waiting:
        response = await client.post(next(urls), content=body)
        response.raise_for_status()
        answers[name] = completion_of(name, response.json()).text


def _run_shard(work: _Work, journal_dir: Path) -> Answers:
    with (
        closing(OpenAIEngine(work.settings.engine)) as engine,
        Journal(journal_dir, "bench", [MISSION]) as journal,
    ):
        recipes = {MISSION: work.recipe}
        scheduler = ShardScheduler(engine, journal, recipes, work.generation, work.batching)
        outcomes = list(scheduler.run(work.refs))
    return {request_id(outcome.ref): outcome.raw_text for outcome in outcomes}
