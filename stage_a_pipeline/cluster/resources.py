"""What an actor needs, what a cluster has, and how much an actor is given at once."""

from __future__ import annotations

from typing import Any, Final

from stage_a_pipeline.settings import Settings

_MOST_AHEAD: Final = 32
_SPARE_THREADS: Final = 4


def actor_options(settings: Settings, ahead: int) -> dict[str, Any]:
    """How Ray is to start an actor that has so many shards at once."""
    return {
        **_reserved(settings),
        "scheduling_strategy": "SPREAD",
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": ahead + _SPARE_THREADS,
    }


def actor_needs(settings: Settings) -> str:
    """What Ray reserves for an actor, for people."""
    needs = _reserved(settings)
    return f"{needs['num_cpus']:g} CPU and {needs['num_gpus']:g} GPU"


def cluster_has(ray: Any) -> str:
    """The processors and GPUs of each node that lives, for people."""
    nodes = [f"{node.get('CPU', 0):g} CPU {node.get('GPU', 0):g} GPU" for node in _nodes(ray)]
    return ", ".join(nodes) or "nothing"


def room_for_actors(ray: Any, settings: Settings) -> int:
    """How many actors the nodes of the cluster have room for, were they empty; at least one."""
    needs = _reserved(settings)
    wanted = {kind: needs[name] for kind, name in (("CPU", "num_cpus"), ("GPU", "num_gpus")) if needs[name]}
    room = (
        min((int(node.get(kind, 0) / amount) for kind, amount in wanted.items()), default=1)
        for node in _nodes(ray)
    )
    return max(1, sum(room))


def shards_ahead(settings: Settings, size: int) -> int:
    """How many shards of a size an actor has at once, so that its batches do not run empty between two."""
    rows = settings.engine.batch_size
    # What is looked at ahead, see PhotosAhead: windows that are sorted, and a batch that is decoded.
    photos = 3 * settings.inference.sort_window + 2 * (rows if isinstance(rows, int) else 32)
    return min(_MOST_AHEAD, 2 + photos // size)


def _reserved(settings: Settings) -> dict[str, float]:
    cluster, on_cuda = settings.cluster, settings.engine.devices[0].startswith("cuda")
    return {"num_cpus": cluster.cpus_per_actor, "num_gpus": cluster.gpus_per_actor if on_cuda else 0.0}


def _nodes(ray: Any) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
