"""The shared adapter, and who listens while photos are asked."""

from __future__ import annotations

import pytest

from stage_a_pipeline.evaluation.asked import Audience
from tests.stage_b.trained import trained  # noqa: F401 - a fixture


class Told:
    """Keeps the notices of an evaluation."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.audience = Audience(self.notices.append, lambda *_: lambda _: None)


@pytest.fixture
def told() -> Told:
    return Told()
