"""The actors of a run: started, given shards, listened to, replaced when they are lost."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from stage_a_pipeline.cluster.host import Host
from stage_a_pipeline.cluster.messages import Brief, Done, Failed, Pulse, Ready, absolute
from stage_a_pipeline.cluster.resources import actor_needs, actor_options, cluster_has
from stage_a_pipeline.cluster.shards import Shard, ShardQueue
from stage_a_pipeline.errors import ClusterError, EngineContractError, StoppedError
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.metrics import ShardMetrics, merge_metrics
from stage_a_pipeline.records import ImageRef

_POLL_SECONDS: Final = 0.5
_PULSE_SECONDS: Final = 1.0
_TELL_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 5.0
_LOSSES: Final = 4
_SPARE_THREADS: Final = 4


@dataclass(slots=True, eq=False)
class _Actor:
    """An actor as the run sees it. `heard` is how much of the news it has been told."""

    key: str
    handle: Any
    ready: bool = False
    host: str = "a host that has not told its name"
    heard: int = 0
    pulse_due: float = 0.0
    pulse_asked: float | None = None
    metrics: ShardMetrics = field(default_factory=ShardMetrics)


@dataclass(frozen=True, slots=True)
class Events:
    """What the actors' owner does with what comes of them.

    `commit` takes the outcomes of a shard, or tells why their host is not fit to be asked for any; `give_up`
    is told of a photo over which actors were lost; `news` gives the keys of answers from a place on.
    """

    commit: Callable[[Shard, Done], str | None]
    give_up: Callable[[ImageRef], None]
    news: Callable[[int], bytes]
    progress: Callable[[ShardMetrics], None]


class Actors:
    """As many actors as were asked for, or as the cluster has room for; leaving the block ends them."""

    def __init__(
        self, ray: Any, brief: Brief, known: bytes, wanted: int, ahead: int, audience: Audience
    ) -> None:
        self._ray = ray
        self._cluster = brief.settings.cluster
        self._brief = brief
        self._known = ray.put(known)
        self._wanted = wanted
        self._audience = audience
        self._ahead = ahead
        self._silence = brief.settings.inference.stall_seconds
        self._names = map("actor-{}".format, itertools.count(1))
        self._actors: dict[str, _Actor] = {}
        self._answers: dict[Any, _Actor] = {}
        self._past = ShardMetrics()
        self._lost_in_a_row = 0
        self._failures: list[Failed] = []
        self._begun = self._last_ready = time.monotonic()
        self._told_fewer = False

    def __enter__(self) -> Actors:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in list(self._actors.values()):
            self._dismiss(actor)

    def work(self, queue: ShardQueue, events: Events, stop: threading.Event) -> None:
        """Have all shards of the queue done. Raises ClusterError, StoppedError, and what `events` raise."""
        while queue:
            if stop.is_set():
                raise StoppedError
            self._start_missing()
            self._hand_out(queue, events)
            for ref in self._answered():
                if (actor := self._answers.pop(ref, None)) is not None:
                    self._take(actor, ref, queue, events)
            self._look_after(queue, events)
        self._close(events)

    def _close(self, events: Events) -> None:
        """Let all actors clear up on their hosts, and hear their last words; not for long."""
        self._answers = {actor.handle.close.remote(): actor for actor in self._actors.values() if actor.ready}
        last = time.monotonic() + _CLOSE_SECONDS
        while self._answers and time.monotonic() < last:
            for ref in self._answered():
                actor = self._answers.pop(ref)
                # Everything is done: one that is lost now is no loss.
                with suppress(self._ray.exceptions.RayError):
                    self._take_pulse(actor, self._ray.get(ref), events)

    def metrics(self) -> ShardMetrics:
        """What all actors have done, those that were lost included."""
        return merge_metrics([self._past, *(actor.metrics for actor in self._actors.values())])

    def _start_missing(self) -> None:
        while len(self._actors) < self._wanted:
            options = {
                **actor_options(self._brief.settings),
                "scheduling_strategy": "SPREAD",
                "max_restarts": 0,
                "max_task_retries": 0,
                "max_concurrency": self._ahead + _SPARE_THREADS,
            }
            handle = self._ray.remote(Host).options(**options).remote()
            actor = _Actor(next(self._names), handle)
            self._actors[actor.key] = actor
            self._answers[handle.set_up.remote(self._brief, self._known)] = actor

    def _hand_out(self, queue: ShardQueue, events: Events) -> None:
        """One shard for each actor in turn, for as long as anybody takes one."""
        ready = [actor for actor in self._actors.values() if actor.ready]
        while ready:
            ready = [actor for actor in ready if self._hand_one(actor, queue, events)]

    def _hand_one(self, actor: _Actor, queue: ShardQueue, events: Events) -> bool:
        shard = queue.take(actor.key, most=self._ahead, actors=len(self._actors))
        if shard is None:
            return False
        news = events.news(actor.heard)
        actor.heard += len(news)
        self._answers[actor.handle.summarise.remote(absolute(shard), news)] = actor
        return True

    def _answered(self) -> list[Any]:
        """References of what has come, after half a second at most."""
        first, _ = self._ray.wait(list(self._answers), timeout=_POLL_SECONDS, fetch_local=False)
        if not first:
            return []
        done, _ = self._ray.wait(
            list(self._answers), num_returns=len(self._answers), timeout=0, fetch_local=False
        )
        return list(done)

    def _take(self, actor: _Actor, ref: Any, queue: ShardQueue, events: Events) -> None:
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(ref)
        except errors.RayTaskError as error:
            answer = Failed("unexpected", f"host {actor.host}: {_first_line(error.cause or error)}")
        # Whatever else it says: the actor, its host, or what it answered, is gone.
        except errors.RayError as error:
            self._lose(actor, type(error).__name__ + ": " + _first_line(error), queue, events)
            return
        match answer:
            case Ready(host):
                actor.ready, actor.host = True, host
                self._audience.log(f"{actor.key} is ready on host {host}")
            case Pulse():
                self._take_pulse(actor, answer, events)
            case Done():
                self._take_shard(actor, answer, queue, events)
            case Failed():
                self._leave_out(actor, answer, queue)

    def _take_pulse(self, actor: _Actor, pulse: Pulse, events: Events) -> None:
        actor.pulse_asked, actor.pulse_due = None, time.monotonic() + _PULSE_SECONDS
        actor.metrics = pulse.metrics
        for sentence in pulse.said:
            tell = self._audience.warning if sentence.kind == "warning" else self._audience.log
            tell(sentence.text)
        events.progress(self.metrics())

    def _take_shard(self, actor: _Actor, done: Done, queue: ShardQueue, events: Events) -> None:
        shard = queue.end(actor.key, done.shard_id)
        assert shard is not None, "answers of an actor that was given up are not waited for"
        actor.metrics = done.metrics
        unfit = events.commit(shard, done)
        if unfit is None:
            self._lost_in_a_row = 0
            return
        queue.put_back(shard)
        self._leave_out(actor, Failed("ClusterError", f"host {actor.host}: {unfit}"), queue)

    def _look_after(self, queue: ShardQueue, events: Events) -> None:
        """Ask all actors how they are, and give up those that do not answer."""
        now = time.monotonic()
        ready = [actor for actor in self._actors.values() if actor.ready]
        for actor in ready:
            if actor.pulse_asked is None and now >= actor.pulse_due:
                actor.pulse_asked = now
                self._answers[actor.handle.pulse.remote()] = actor
            elif actor.pulse_asked is not None and now - actor.pulse_asked > self._silence:
                self._lose(actor, f"it gave no sign of life for {self._silence:.0f} s", queue, events)
        if ready:
            self._last_ready = now
            self._tell_of_fewer(len(ready), now)
        elif now - self._last_ready > self._cluster.start_seconds:
            needs, has = actor_needs(self._brief.settings), cluster_has(self._ray)
            raise ClusterError(
                f"no actor could be started within {self._cluster.start_seconds:.0f} s; each needs {needs}, "
                f"and the nodes of the cluster have {has}; finished photos are kept, run again when there is "
                "room, or raise cluster.start_seconds"
            )

    def _tell_of_fewer(self, ready: int, now: float) -> None:
        if ready < self._wanted and not self._told_fewer and now - self._begun > _TELL_SECONDS:
            self._told_fewer = True
            self._audience.warning(
                f"{ready} of {self._wanted} actors have started; the others join when the cluster has room "
                f"for them: each needs {actor_needs(self._brief.settings)}"
            )

    def _lose(self, actor: _Actor, cause: str, queue: ShardQueue, events: Events) -> None:
        """An actor that is gone, or as good as gone: its shards go to others, and one comes in its place."""
        self._dismiss(actor)
        shards, given_up = queue.lose(actor.key)
        self._audience.warning(
            f"{actor.key} on {actor.host} was lost ({cause}); {shards} shards go to others"
        )
        for ref in given_up:
            events.give_up(ref)
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= _LOSSES + 2 * self._wanted:
            raise ClusterError(
                f"{self._lost_in_a_row} actors in a row were lost without finishing a shard, the last one: "
                f"{cause}; look at the hosts' Ray logs; finished photos are kept, run again to go on"
            )

    def _leave_out(self, actor: _Actor, failed: Failed, queue: ShardQueue) -> None:
        """Work without an actor whose host is not fit for it. Raises its error when no other is left."""
        if failed.kind == EngineContractError.__name__:
            raise EngineContractError(failed.message)
        self._dismiss(actor)
        queue.give_back(actor.key)
        self._wanted -= 1
        self._failures.append(failed)
        if not self._wanted:
            told = "; ".join(dict.fromkeys(failure.message for failure in self._failures))
            raise ClusterError(f"no actor is left: {told}; finished photos are kept, run again to go on")
        self._audience.warning(f"{actor.key} is left out: {failed.message}")

    def _dismiss(self, actor: _Actor) -> None:
        """End an actor; what it may still answer is not waited for."""
        self._past = merge_metrics([self._past, actor.metrics])
        del self._actors[actor.key]
        self._answers = {ref: one for ref, one in self._answers.items() if one is not actor}
        # One that is lost, or was never started, needs no end.
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(actor.handle)


def _first_line(error: object) -> str:
    lines: Iterator[str] = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:300]
