"""The actors of a run: started, given shards, listened to, replaced when they are lost."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from stage_a_pipeline.cluster.host import Host
from stage_a_pipeline.cluster.messages import Brief, Done, Failed, Pulse, Ready, for_hosts
from stage_a_pipeline.cluster.resources import actor_needs, actor_options, cluster_has
from stage_a_pipeline.cluster.shards import Shard, ShardQueue
from stage_a_pipeline.errors import ClusterError, EngineContractError, PhotoError, StoppedError, StoreError
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.metrics import ShardMetrics, merge_metrics
from stage_a_pipeline.records import ImageRef

_POLL_SECONDS: Final = 0.5
_PULSE_SECONDS: Final = 1.0
_TELL_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 5.0
_LOSSES: Final = 4
_MAY_PASS: Final = (PhotoError.__name__, StoreError.__name__)
_RESTS_SECONDS: Final = (10.0, 60.0)
"""What may pass on a host is waited for so long, each time that it fails without finishing a shard."""


@dataclass(slots=True, eq=False)
class _Actor:
    """An actor as the run sees it. `heard` is how much of the news it has been told.

    `failures` is how many actors failed in its place since one of them has finished a shard. `silent` are the
    seconds since it was asked for its pulse.
    """

    key: str
    handle: Any
    failures: int
    ready: bool = False
    host: str = "a host that has not told its name"
    heard: int = 0
    pulse_due: float = 0.0
    silent: float | None = None
    metrics: ShardMetrics = field(default_factory=ShardMetrics)


@dataclass(frozen=True, slots=True)
class Events:
    """What the actors' owner does with what comes of them.

    `commit` takes the outcomes of a shard, or tells what their host could not read; `give_up` is told of a
    photo over which actors were lost; `news` gives the keys of answers from a place on.
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
        self._failures: list[Failed] = []
        self._resting: list[tuple[float, int]] = []
        self._done: Counter[str] = Counter()
        self._without_any = 0.0
        self._begun = self._looked = time.monotonic()
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

    def photos_done(self) -> str:
        """How many photos each actor has done, for people."""
        return ", ".join(f"{actor}: {photos}" for actor, photos in self._done.items())

    def _start_missing(self) -> None:
        now = time.monotonic()
        rested = [failures for until, failures in self._resting if until <= now]
        self._resting = [(until, failures) for until, failures in self._resting if until > now]
        missing = self._wanted - len(self._actors) - len(self._resting) - len(rested)
        for failures in (*rested, *[0] * missing):
            self._start(failures)

    def _start(self, failures: int) -> None:
        options = actor_options(self._brief.settings, self._ahead)
        handle = self._ray.remote(Host).options(**options).remote()
        actor = _Actor(next(self._names), handle, failures)
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
        self._answers[actor.handle.summarise.remote(for_hosts(shard), news)] = actor
        return True

    def _answered(self) -> list[Any]:
        """References of what has come, after half a second at most."""
        if not self._answers:
            # Every actor rests.
            time.sleep(_POLL_SECONDS)
            return []
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
        actor.silent, actor.pulse_due = None, time.monotonic() + _PULSE_SECONDS
        actor.metrics = pulse.metrics
        for sentence in pulse.said:
            tell = self._audience.warning if sentence.kind == "warning" else self._audience.log
            tell(sentence.text)
        events.progress(self.metrics())

    def _take_shard(self, actor: _Actor, done: Done, queue: ShardQueue, events: Events) -> None:
        shard = queue.end(actor.key, done.shard_id)
        assert shard is not None, "answers of an actor that was given up are not waited for"
        actor.metrics = done.metrics
        unread = events.commit(shard, done)
        if unread is None:
            actor.failures = 0
            self._done[f"{actor.key} on {actor.host}"] += len(shard.refs)
            return
        queue.put_back(shard)
        self._leave_out(actor, Failed(PhotoError.__name__, f"host {actor.host}: {unread}"), queue)

    def _look_after(self, queue: ShardQueue, events: Events) -> None:
        """Ask all actors how they are, and give up those that do not answer."""
        now = time.monotonic()
        # While this process is stopped, or at work, nobody is heard: that is no silence of theirs.
        listened, self._looked = min(now - self._looked, 2 * _POLL_SECONDS), now
        ready = [actor for actor in self._actors.values() if actor.ready]
        for actor in ready:
            if actor.silent is not None:
                actor.silent += listened
            elif now >= actor.pulse_due:
                actor.silent = 0.0
                self._answers[actor.handle.pulse.remote()] = actor
            if actor.silent is not None and actor.silent > self._silence:
                self._lose(actor, f"it gave no sign of life for {self._silence:.0f} s", queue, events)
        if ready or self._resting:
            self._without_any = 0.0
            self._tell_of_fewer(len(ready), now)
            return
        self._without_any += listened
        if self._without_any > self._cluster.start_seconds:
            needs, has = actor_needs(self._brief.settings), cluster_has(self._ray)
            raise ClusterError(
                f"no actor could be started within {self._cluster.start_seconds:.0f} s; each needs {needs}, "
                f"and the nodes of the cluster have {has}; finished photos are kept, run again when there is "
                "room, or raise cluster.start_seconds"
            )

    def _tell_of_fewer(self, ready: int, now: float) -> None:
        fewer = ready + len(self._resting) < self._wanted
        if fewer and not self._told_fewer and now - self._begun > _TELL_SECONDS:
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
        if queue.lost_in_a_row >= _LOSSES + 2 * self._wanted:
            raise ClusterError(
                f"{queue.lost_in_a_row} actors in a row were lost without finishing a shard, the last one: "
                f"{cause}; look at the hosts' Ray logs; finished photos are kept, run again to go on"
            )

    def _leave_out(self, actor: _Actor, failed: Failed, queue: ShardQueue) -> None:
        """Work without an actor whose host is not fit for it; what may pass is tried again after a while.

        Raises its error when no other is left.
        """
        if failed.kind == EngineContractError.__name__:
            raise EngineContractError(failed.message)
        self._dismiss(actor)
        queue.give_back(actor.key)
        if failed.kind in _MAY_PASS and actor.failures < len(_RESTS_SECONDS):
            rest = _RESTS_SECONDS[actor.failures]
            self._resting.append((time.monotonic() + rest, actor.failures + 1))
            self._audience.warning(f"{actor.key} is replaced in {rest:.0f} s: {failed.message}")
            return
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
