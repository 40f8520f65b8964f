"""Every command and example of the pages is run, page by page, in the order in which a reader meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.missions import load_missions
from tests.docs.pages import PAGES, ROOT, blocks_of
from tests.docs.readers import READERS, Reader, elsewhere
from tests.docs.workplace import Workplace

QUICK = {"docs/tutorial.md"}
"""What a newcomer types first; the rest takes minutes, with models, servers and benchmarks."""


def pages_to_run():
    """Pages with something to run."""
    found = []
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        runs = [b for b in blocks_of(page) if b.language in {"sh", "python"} and b.not_run is None]
        slow = [] if name in QUICK else [pytest.mark.slow]
        if runs:
            found.append(pytest.param(page, id=name, marks=slow))
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two groups of every mission, with workbook and truth: /data/photos."""
    root = tmp_path_factory.mktemp("data") / "photos"
    write_demo_tree(root, missions=list(load_missions()), groups=2, seed=5)
    return root


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("page", pages_to_run())
def test_every_command_of_the_page_succeeds(page, photos, tmp_path):
    reader = READERS.get(str(page.relative_to(ROOT)), Reader())
    with elsewhere(reader, photos) as replaced:
        done = Workplace(tmp_path, photos, reader, replaced).run(page, seconds=2300)
    assert done.returncode == 0, done.stdout[-6000:]
