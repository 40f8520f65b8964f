"""The settings of the report: where it lies, what its thumbnails show, and how many groups make a page."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from stage_a_pipeline.settings_paths import FilePath
from stage_a_pipeline.settings_sections import Section

Region = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a photo, as shares of its width and height."""


class ReportSettings(Section):
    """The HTML report of each mission."""

    output_dir: FilePath | None = Field(
        None,
        description="Folder of this machine that holds one folder per mission; unset is `report` in "
        "`output_dir`, or where that is a URL, in the work folder.",
    )
    language: Literal["zh", "en"] = Field(
        "zh", description="Language in which a page opens; readers switch it there."
    )
    groups_per_page: int = Field(20, ge=1, le=200, description="Groups on one page.")
    thumbnails: bool = Field(True, description="Whether photos are shown at all.")
    thumbnail_pixels: int = Field(480, ge=64, le=2048, description="Longer side of a thumbnail.")
    mask_watermark: bool = Field(
        True,
        description="Whether `mask_regions` of thumbnails, on Dagster's pages too, are painted over.",
    )
    mask_regions: tuple[Annotated[Region, Field(strict=False)], ...] = Field(
        ((0.0, 0.86, 1.0, 1.0),),
        strict=False,
        description="Where watermarks stand: left, top, right and bottom of the upright photo, from 0 to 1.",
    )
    mask_exif: bool = Field(
        True, description="Whether thumbnails come without the photo's EXIF, which may hold place and owner."
    )
    workers: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = Field(
        "auto", description="Threads that make thumbnails; auto is one per processor, 8 at most."
    )

    @property
    def covered(self) -> tuple[Region, ...]:
        """The regions that are painted over in every thumbnail, on Dagster's pages too."""
        return self.mask_regions if self.mask_watermark else ()

    @field_validator("mask_regions")
    @classmethod
    def _regions_lie_in_the_photo(cls, regions: tuple[Region, ...]) -> tuple[Region, ...]:
        for left, top, right, bottom in regions:
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise ValueError(
                    f"({left}, {top}, {right}, {bottom}) is no region: give left < right and top < bottom, "
                    "each from 0 to 1"
                )
        return regions
