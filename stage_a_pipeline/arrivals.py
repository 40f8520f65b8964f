"""New and changed groups: which missions to run, from one look at the input root to the next.

A look keeps a hash per mission, however many groups it has. A mission is run once its listing has stayed
the same for a while, so that an upload under way is not caught in its middle, and never twice for the
same listing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import DiscoveryError, StoreError
from stage_a_pipeline.input_root import folders_by_mission, mission_that_is_root, open_root, tree_reader
from stage_a_pipeline.missions import MissionTable
from stage_a_pipeline.places import Place

_VERSION: Final = 1
_HASH_LETTERS: Final = 32
"""So much of a SHA-256 is kept."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The groups of a mission as they lie in the input root; the hash is of names, sizes and times."""

    mission: str
    hash: str
    groups: int


@dataclass(frozen=True, slots=True)
class Look:
    """What the input root holds, and, in a sentence each, missions that could not be listed."""

    listings: tuple[Listing, ...]
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Watched:
    """What is remembered of a mission: the listing last seen, since when, and that of its last run.

    `runs` counts the runs that were asked for, so that a listing that comes back is run again.
    """

    seen: str
    since: float
    requested: str | None = None
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run of a mission. `key` is the same whenever the same run is asked for."""

    listing: Listing
    key: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to run now, what to remember, and why the other missions wait, in a sentence each."""

    wanted: tuple[Wanted, ...]
    watched: Mapping[str, Watched]
    waiting: tuple[str, ...]


def short_hash(listing_hash: str) -> str:
    """As much of a listing's hash as is kept and compared."""
    return listing_hash[:_HASH_LETTERS]


def missions_with_folder(root: Place, missions: MissionTable, *, allow_external_symlinks: bool) -> list[str]:
    """The missions that have a folder in the root, in the table's order, or the one whose own folder it is.

    Raises DiscoveryError, StoreError.
    """
    opened = open_root(root)
    if (own := mission_that_is_root(opened, missions.values())) is not None:
        return [own[1].name]
    reader = tree_reader(opened, follow_external_links=allow_external_symlinks)
    return list(folders_by_mission(missions, opened, reader))


def look(root: Place, missions: MissionTable, *, allow_external_symlinks: bool) -> Look:
    """Every mission's listing. Raises DiscoveryError and StoreError for a root that cannot be listed.

    A mission of which a part cannot be read is unread: its other groups must not pass for all of them.
    """
    listings, unread = [], {}
    for mission in missions_with_folder(root, missions, allow_external_symlinks=allow_external_symlinks):
        try:
            found = discover_groups(
                root, mission, missions=missions, allow_external_symlinks=allow_external_symlinks
            )
        except (DiscoveryError, StoreError) as error:
            unread[mission] = str(error)
            continue
        denied = [entry for entry in found.skipped if entry.reason == "unreadable"]
        if denied:
            unread[mission] = f"{denied[0].path} {denied[0].detail}"
        elif found.groups:
            listings.append(Listing(mission, short_hash(found.listing_hash()), len(found.groups)))
    return Look(tuple(listings), unread)


def decide(
    before: Mapping[str, Watched],
    seen: Look,
    *,
    delivered: Mapping[str, str],
    under_way: Collection[str],
    now: float,
    settle_seconds: float,
) -> Decision:
    """Which missions to run, by what was seen before and is seen now.

    `delivered` are the hashes of what the delivered files were made of, `under_way` the missions that a
    run works on. `now` is in seconds, of the same clock as the ones remembered.
    """
    wanted: list[Wanted] = []
    watched = dict(before)
    waiting = [f"{mission} cannot be listed: {why}" for mission, why in seen.unread.items()]
    for listing in seen.listings:
        known = _noted(before.get(listing.mission), listing, now)
        watched[listing.mission] = known
        left = known.since + settle_seconds - now
        if delivered.get(listing.mission) == listing.hash:
            continue
        if known.requested == listing.hash:
            if listing.mission not in under_way:
                waiting.append(f"{listing.mission} was run as it is, and not delivered: look at its last run")
        elif left > 0:
            waiting.append(f"{listing.mission} has changed, and is left to settle for {left:.0f} s more")
        elif listing.mission in under_way:
            waiting.append(f"{listing.mission} has changed, and waits for the run that is under way")
        else:
            wanted.append(Wanted(listing, f"{listing.mission}:{listing.hash}:{known.runs}"))
            watched[listing.mission] = replace(known, requested=listing.hash, runs=known.runs + 1)
    return Decision(tuple(wanted), watched, tuple(waiting))


def _noted(known: Watched | None, listing: Listing, now: float) -> Watched:
    if known is None:
        return Watched(listing.hash, now)
    if known.seen == listing.hash:
        return known
    # A listing that was run, left, and is there again, differs from what the last run has seen.
    return replace(known, seen=listing.hash, since=now, requested=None)


def to_cursor(watched: Mapping[str, Watched]) -> str:
    """What is remembered as text: some hundred letters per mission."""
    missions = {mission: asdict(one) for mission, one in sorted(watched.items())}
    return json.dumps({"version": _VERSION, "missions": missions}, ensure_ascii=False)


def from_cursor(text: str | None) -> dict[str, Watched]:
    """The inverse of `to_cursor`; nothing for a text that is none, which then is looked at anew."""
    if not text:
        return {}
    try:
        document = json.loads(text)
        if document["version"] != _VERSION:
            return {}
        return {mission: Watched(**one) for mission, one in document["missions"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def sentence(waiting: Iterable[str], seen: Look) -> str:
    """Why nothing is run, for people."""
    return "; ".join(_reasons(tuple(waiting), seen))


def _reasons(waiting: tuple[str, ...], seen: Look) -> Iterator[str]:
    if waiting:
        yield from waiting
    elif seen.listings:
        groups = sum(listing.groups for listing in seen.listings)
        yield f"nothing new among {groups:,} groups of {len(seen.listings)} missions"
    else:
        yield "no mission's folder in the input root holds a group"
