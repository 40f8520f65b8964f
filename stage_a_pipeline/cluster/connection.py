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
_AUTO: Final = "auto"


@contextmanager
def connected(settings: ClusterSettings) -> Iterator[Any]:
    """Ray's module, connected to the cluster of the settings.

    ConfigurationError without Ray, and where this process is connected to another cluster; ClusterError for
    a cluster that cannot be reached.
    """
    require_ray()
    # Ray tells its makers about clusters that it starts, unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if settings.address == _LOCAL:
        # So named for the systems where it is the default: all of Ray's ports are on the loopback interface.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    assert settings.address is not None
    if ray.is_initialized():
        _require_same(settings.address, ray.get_runtime_context().gcs_address)
        yield ray
        return
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


def _require_same(wanted: str, connected_to: str) -> None:
    """ConfigurationError where the process is connected to another cluster than the one that is wanted.

    The port of `ray://` is not the head's own, and `auto` takes the cluster that there is.
    """
    if wanted == _AUTO:
        return
    host, _, port = wanted.rpartition(":")
    there, _, its_port = connected_to.rpartition(":")
    if wanted == _LOCAL:
        host, port = "localhost", its_port
    elif wanted.startswith(_CLIENT):
        host, port = host.removeprefix(_CLIENT), its_port
    if port != its_port or _addresses(host).isdisjoint(_addresses(there.strip("[]"))):
        raise ConfigurationError(
            f"cluster.address is {wanted}, and this process is connected to the Ray cluster {connected_to}; "
            f"set it to that one or to {_AUTO!r}, or call ray.shutdown() before"
        )


def _addresses(host: str) -> set[str]:
    """The IP addresses of a host; all those of this machine count as one."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return {host}
    return {_LOCAL if _is_here(address) else address for address in found}


def _is_here(address: str) -> bool:
    """Whether it is an address of this machine: no other can be listened on."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.create_server((address, 0), family=family).close()
    except OSError:
        return False
    return True


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
