"""Checks of reassembled objects: what must hold of their files, and whether the scan is covered."""

from collections.abc import Iterator, Sequence

import dagster as dg

from stage_a_pipeline.reassembly.stitched_object import COVERED, StitchedObject
from stage_a_pipeline.settings import ReassemblySettings

_ASSET = "reassembled_object"

OBJECT_CHECKS = [
    dg.AssetCheckSpec(
        "patches_cover_the_scan",
        asset=_ASSET,
        description="At least reassembly.min_coverage of the box around all patches has one; a warning.",
    ),
    dg.AssetCheckSpec(
        "values_are_finite",
        asset=_ASSET,
        description="Neither objects nor counts hold NaN or infinity.",
        blocking=True,
    ),
    dg.AssetCheckSpec(
        "objects_fit_their_plans",
        asset=_ASSET,
        description="Objects and counts are squares of the side that the positions and the crop ask for.",
        blocking=True,
    ),
]


def check_objects(
    objects: Sequence[StitchedObject], settings: ReassemblySettings
) -> Iterator[dg.AssetCheckResult]:
    """What must hold of all models' objects; of none, everything does."""
    yield _check_coverage(objects, settings)
    broken = [str(one.path) for one in objects if not one.finite]
    yield dg.AssetCheckResult(
        check_name="values_are_finite",
        passed=not broken,
        description=f"not finite: {', '.join(broken)}; look at the patches, and at what predicted them"
        if broken
        else "all values are finite",
    )
    misfits = [_shapes(one) for one in objects if not _fits(one)]
    yield dg.AssetCheckResult(
        check_name="objects_fit_their_plans",
        passed=not misfits,
        description=f"{'; '.join(misfits)}; materialise again, and report it where that does not help"
        if misfits
        else "; ".join(map(_shapes, objects)) or "no object was stitched",
    )


def _check_coverage(objects: Sequence[StitchedObject], settings: ReassemblySettings) -> dg.AssetCheckResult:
    low = [one for one in objects if one.coverage < settings.min_coverage]
    told = "; ".join(f"{one.model}: {one.coverage:.1%}" for one in low or objects)
    if low:
        told += (
            f", below {settings.min_coverage:.1%}: other pixels have less than {COVERED} of a patch on them; "
            f"scan more densely, or raise reassembly.crop_size ({settings.crop_size})"
        )
    return dg.AssetCheckResult(
        check_name="patches_cover_the_scan",
        passed=not low,
        severity=dg.AssetCheckSeverity.WARN,
        description=told or "no object was stitched",
        metadata={one.model: one.coverage for one in objects},
    )


def _fits(one: StitchedObject) -> bool:
    return one.object_shape == one.count_shape == (one.side, one.side)


def _shapes(one: StitchedObject) -> str:
    shapes = dict.fromkeys((one.object_shape, one.count_shape))
    told = f"{one.model}: {' and '.join(' x '.join(map(str, shape)) for shape in shapes)}"
    return told if _fits(one) else f"{told}, planned {one.side} x {one.side} ({one.path})"
