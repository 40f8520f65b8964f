"""A reproducible sample of pass and fail groups."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from stage_a_pipeline.errors import ConfigurationError, DiscoveryError
from stage_a_pipeline.records import Group, Label


@dataclass(frozen=True, slots=True)
class SamplingStats:
    """How many groups of each label there were, and how many were selected."""

    pass_total: int
    pass_selected: int
    fail_total: int
    fail_selected: int

    def to_mapping(self) -> dict[str, int]:
        """The counts by name, for metadata."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Sampled:
    """The selected groups in discovery order."""

    groups: tuple[Group, ...]
    stats: SamplingStats

    def require_groups(self) -> None:
        """Raise DiscoveryError, with the counts, when no group was selected."""
        if not self.groups:
            raise DiscoveryError(
                f"sampling left no group: 0 of {self.stats.pass_total} pass and 0 of "
                f"{self.stats.fail_total} fail groups; raise sampling.pass_count or sampling.fail_count"
            )


def sample_groups(
    groups: Iterable[Group],
    *,
    pass_count: int | None = None,
    fail_count: int | None = None,
    seed: int = 42,
) -> Sampled:
    """Up to `pass_count` pass and `fail_count` fail groups, drawn independently, order kept.

    None, or a count that is not below what is there, keeps all. Pass groups are drawn by
    `random.Random(seed).sample`, fail groups with `seed + 1`. The labels are counted over all given
    groups: sample each mission by itself for counts per mission. Raises ConfigurationError for a
    negative count.
    """
    groups = tuple(groups)
    drawn = {
        "pass": _draw(groups, "pass", pass_count, seed),
        "fail": _draw(groups, "fail", fail_count, seed + 1),
    }
    totals = {label: sum(group.label == label for group in groups) for label in drawn}
    return Sampled(
        groups=tuple(groups[index] for index in sorted(drawn["pass"] + drawn["fail"])),
        stats=SamplingStats(
            pass_total=totals["pass"],
            pass_selected=len(drawn["pass"]),
            fail_total=totals["fail"],
            fail_selected=len(drawn["fail"]),
        ),
    )


def _draw(groups: tuple[Group, ...], label: Label, count: int | None, seed: int) -> list[int]:
    if count is not None and count < 0:
        raise ConfigurationError(f"sampling.{label}_count must not be negative, but is {count}")
    indices = [index for index, group in enumerate(groups) if group.label == label]
    if count is None or count >= len(indices):
        return indices
    return random.Random(seed).sample(indices, count)
