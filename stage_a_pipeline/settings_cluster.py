"""The settings of a Ray cluster: where it is, and what is asked of it."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from stage_a_pipeline.settings_sections import Section

_ADDRESS: Final = re.compile(r"auto|local|(ray://)?[^\s/:]+:\d+")


class ClusterSettings(Section):
    """The Ray cluster whose hosts share the photos of a run; needs the extra `ray`."""

    address: str | None = Field(
        None,
        description="`host:port` of the head, `ray://host:port`, `auto` for the cluster of this machine, "
        "`local` for one that ends with the run; unset uses no Ray.",
    )
    actors: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="How many load the model; auto is as many as the hosts have room for at the start.",
    )
    cpus_per_actor: float = Field(
        1.0, ge=0, description="Processors that Ray reserves for an actor; on CUDA also its decoding threads."
    )
    gpus_per_actor: float = Field(
        1.0, gt=0, description="GPUs, or the share of one, that Ray reserves for an actor on a CUDA device."
    )
    photos_per_shard: int = Field(
        256,
        ge=1,
        description="Photos that are given out and written down together, at most; few are cut smaller.",
    )
    start_seconds: float = Field(
        300.0, gt=0, description="How long a run waits while the cluster has no room for any actor."
    )

    @field_validator("address")
    @classmethod
    def _address_is_one(cls, address: str | None) -> str | None:
        if address is not None and not _ADDRESS.fullmatch(address):
            raise ValueError("an address is host:port, ray://host:port, 'auto' or 'local'")
        return address
