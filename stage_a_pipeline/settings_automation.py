"""The settings of what runs by itself: sensor, nightly schedule, owners, and who hears of failures."""

from __future__ import annotations

import re
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from stage_a_pipeline.settings_sections import Section

_EMAIL: Final = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
"""What Dagster takes for one."""
_TEAM: Final = re.compile(r"team:[A-Za-z0-9_.-]+")
_URL: Final = re.compile(r"https?://[^\s/]+(/\S*)?", re.IGNORECASE)


def _owner(owner: str) -> str:
    if not (_EMAIL.fullmatch(owner) or _TEAM.fullmatch(owner)):
        raise ValueError("an owner is an e-mail address, or `team:` and a name without blanks")
    return owner


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("no such time zone; give a name such as Asia/Shanghai or UTC") from error
    return name


def _url(url: str) -> str:
    if not _URL.fullmatch(url):
        raise ValueError("must begin with http:// or https:// and a host")
    return url.rstrip("/")


def _secret_url(url: object) -> object:
    given = url.get_secret_value() if isinstance(url, SecretStr) else url
    # Not the pattern of a field: its message would show what was given.
    if not isinstance(given, str) or not _URL.fullmatch(given):
        raise ValueError("must be a URL that begins with http:// or https:// and a host")
    return url


class AutomationSettings(Section):
    """What runs by itself, and who hears of failures. Read when Dagster loads the code location."""

    owners: tuple[Annotated[str, AfterValidator(_owner)], ...] = Field(
        ("team:quality",),
        strict=False,
        description="Who is shown as owner of every asset: e-mail addresses, or `team:` and a name.",
    )
    sensor: bool = Field(
        False,
        description="Whether the sensor `new_or_changed_groups` is on from the start.",
    )
    sensor_seconds: int = Field(30, ge=1, description="How often the sensor lists the input root, at most.")
    settle_seconds: float = Field(
        60.0,
        ge=0.0,
        allow_inf_nan=False,
        description="A mission is run once its listing has not changed for so long; 0 waits for nobody.",
    )
    nightly: bool = Field(False, description="Whether the schedule `nightly` is on from the start.")
    nightly_cron: str = Field(
        "0 2 * * *",
        pattern=r"^\S+( \S+){4}$",
        description="When: minute, hour, day of the month, month, weekday.",
    )
    timezone: Annotated[str, AfterValidator(_timezone)] = Field("UTC", description="Of `nightly_cron`.")
    ui_url: Annotated[str, AfterValidator(_url)] = Field(
        "http://127.0.0.1:3000", description="Where people find the Dagster UI; for links to failed runs."
    )
    webhook_url: Annotated[SecretStr, BeforeValidator(_secret_url)] | None = Field(
        None, description="Where failures are posted as JSON; a secret, best set as `STAGE_A_WEBHOOK_URL`."
    )
