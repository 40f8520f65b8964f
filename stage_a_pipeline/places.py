"""Where files are: paths of this machine, and URLs of object stores."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from upath import UPath

Place = Path | UPath
"""A Path of this machine, or the URL of an object or a prefix."""

CHAIN: Final = "::"
"""What a UPath has behind this is lost when something is joined to it."""

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_EXTRAS: Final[Mapping[str, str | None]] = {"s3": "s3", "gs": "gcs", "memory": None}
"""The protocols of object stores, in which an object appears whole or not at all, and the extra of each."""

_OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    # Listings that are remembered for as long as a process lives would hide what others have written.
    "s3": {
        "use_listings_cache": False,
        "config_kwargs": {"connect_timeout": 10, "read_timeout": 30, "max_pool_connections": 32},
    },
    "gs": {"use_listings_cache": False},
    "memory": {},
}


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a path."""
    return _URL.match(text) is not None


def as_place(text: str) -> Place:
    """The place that a path or URL names; `file://` URLs are paths.

    ValueError for a URL that cannot be used, with what would be right.
    """
    url = _URL.match(text)
    if url is None:
        return Path(text)
    protocol, rest = url[1].lower(), url[2]
    if protocol == "file":
        return _local(rest)
    if protocol not in _EXTRAS:
        raise ValueError(f"unknown protocol {protocol!r}; known: file, {', '.join(_EXTRAS)}, and plain paths")
    bucket, _, key = rest.rstrip("/").partition("/")
    # A secret may hold a slash, behind which nothing of it stands in the bucket's name.
    if "@" in bucket or ":" in bucket:
        raise ValueError("a URL must not hold credentials; they come from the environment or its files")
    if not bucket:
        raise ValueError(f"a URL names a bucket: {protocol}://bucket/folder")
    if CHAIN in rest:
        raise ValueError(f"a URL must not hold {CHAIN!r}, which links two of them; rename what is called so")
    base = _bucket(protocol, bucket)
    return base / key if key else base


def to_path(place: Place) -> Path:
    """A place that must be on this machine. ValueError for a URL."""
    if isinstance(place, Path):
        return place
    raise ValueError(f"{place} is in an object store, and this must be a path of this machine")


def absolute(place: Place) -> Place:
    """The place whatever the working directory is."""
    return place.absolute() if isinstance(place, Path) else place


def _local(rest: str) -> Path:
    if not rest.startswith("/"):
        raise ValueError("a file URL names an absolute path: file:///data/photos")
    return Path(os.path.normpath(rest))


@cache
def _bucket(protocol: str, name: str) -> UPath:
    """The top of a bucket. Places below share its connections, in all threads."""
    try:
        base: UPath = UPath(f"{protocol}://{name}", **_OPTIONS[protocol])
        # Made here, once: fsspec itself keeps one per thread.
        filesystem = base.fs
        if protocol == "s3":
            # botocore tries each request several times below it, and `objects` each call above it.
            filesystem.retries = 2
    except ImportError as error:
        extra = _EXTRAS[protocol]
        raise ValueError(
            f"{protocol}:// needs the extra `{extra}`: pip install '.[{extra}]' in the project's folder "
            f"({error})"
        ) from error
    return base
