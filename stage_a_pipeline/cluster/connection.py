"""The connection to a Ray cluster: made for a run, unless the process has one, and ended with it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

from stage_a_pipeline.errors import ClusterError, ConfigurationError
from stage_a_pipeline.settings import ClusterSettings

_REACH_SECONDS: Final = 10.0
_CLIENT: Final = "ray://"
_LOCAL: Final = "local"


@contextmanager
def connected(settings: ClusterSettings) -> Iterator[Any]:
    """Ray's module, connected to the cluster of the settings.

    ConfigurationError without Ray, ClusterError for a cluster that cannot be reached.
    """
    require_ray()
    # Ray tells its makers about clusters that it starts, unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if settings.address == _LOCAL:
        # So named for the systems where it is the default: all of Ray's ports are on the loopback interface.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    assert settings.address is not None
    _require_reachable(settings.address)
    with _own_sigterm(), _silent_about_signals():
        _connect(ray, settings.address)
    try:
        yield ray
    finally:
        ray.shutdown()


def require_ray() -> None:
    """ConfigurationError where Ray is not installed."""
    if find_spec("ray") is None:
        raise ConfigurationError(
            "a Ray cluster (cluster.address) needs Ray, which is not installed; on this machine and on all "
            "hosts: pip install '.[ray]' in the project's folder"
        )


def _connect(ray: Any, address: str) -> None:
    dashboard = {"include_dashboard": False} if address == _LOCAL else {}
    try:
        # Nothing of what actors print comes into the run's log: it stays on their hosts.
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **dashboard)
    # It has many ways to say so, and no common one.
    except Exception as error:
        raise _unreachable(address, str(error).strip().split("\n")[0]) from error


def _require_reachable(address: str) -> None:
    """ClusterError, soon, where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), _REACH_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error


def _unreachable(address: str, cause: str) -> ClusterError:
    return ClusterError(
        f"the Ray cluster {address} cannot be reached: {cause}; start it (`ray start --head`), correct "
        "cluster.address, or unset it to work on this machine's devices"
    )


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what SIGTERM does in this process: Ray would have it end without telling anybody."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _silent_about_signals() -> Iterator[None]:
    """Ray warns on other threads than the main one that it cannot do what `_own_sigterm` undoes."""
    logger = logging.getLogger("ray._private.worker")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
