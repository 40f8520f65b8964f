"""Notes of runs in an object store, by which those on other machines know of each other.

Locks are of one machine. A note, `work/running/<mission>.<shard>.<origin>.json` below the output, is for
people: nobody waits for its run or is refused, since it outlives a machine that dies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from upath import UPath

from stage_a_pipeline.storage import Holder, objects, this_process

_RUNNING: Final = "running"


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes journals: those called `shard` of these missions, in a run and for a purpose."""

    shard: str
    missions: Sequence[str]
    run_id: str
    purpose: str


class RunNotes:
    """A writer's notes, one per mission, in a store that knows its work folder by an origin."""

    def __init__(self, store: UPath, origin: str, writer: Writer) -> None:
        self._folder = store / "work" / _RUNNING
        self._origin = origin
        self._writer = writer
        self._left: list[UPath] = []

    def leave(self, tell: Callable[[str], None]) -> None:
        """Leave the notes, remove those of dead runs here, and tell of those of other machines.

        The writer has claimed its missions: another run that left a note here is dead. Raises OSError.
        """
        for place, mission, origin in self._found():
            if mission in self._writer.missions:
                holder = _read_note(place)
                if origin != self._origin:
                    tell(
                        f"the output of mission {mission} may be written by "
                        f"{holder or 'a run on another machine'} as well; both would ask the same photos, "
                        f"and who publishes last wins. If that run is dead, delete {place}"
                    )
                elif holder is not None and holder.run_id != self._writer.run_id:
                    objects.remove(place)
        mine = json.dumps(asdict(this_process(self._writer.purpose, self._writer.run_id))).encode()
        for mission in self._writer.missions:
            note = self._folder / f"{mission}.{self._writer.shard}.{self._origin}.json"
            self._left.append(note)
            objects.put_bytes(note, mine)

    def remove(self) -> None:
        """Remove what was left. Raises OSError."""
        for note in self._left:
            objects.remove(note)

    def _found(self) -> Iterator[tuple[UPath, str, str]]:
        """All notes, with the mission and the origin of each."""
        try:
            names = [name for name, _ in objects.children(self._folder)]
        except FileNotFoundError:
            return
        for name in sorted(names):
            mission, *rest = name.rsplit(".", 3)
            if len(rest) == 3 and rest[2] == "json":
                yield self._folder / name, mission, rest[1]


def _read_note(place: UPath) -> Holder | None:
    try:
        return Holder(**json.loads(objects.get_bytes(place)))
    except (OSError, ValueError, TypeError):
        # It is for people, and its run may just have ended.
        return None
