"""What the reader of a page has before the first line: what was exported, saved and typed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.engines.chat_server import serving
from tests.object_store import Store, serve

_PLACES: Final = {"STAGE_A_INPUT_ROOT": "/data/photos", "STAGE_A_OUTPUT_DIR": "/data/stage_a"}
_FAST: Final = "[engine]\nbatch_size = 16\nmax_new_tokens = 256\n"
_SERVED: Final = '[engine]\nengine = "openai"\nserver_urls = ["http://gpu-1:8000"]\nserver_model = "qwen"\n'
_TRAINED: Final = f"""\
{_FAST}
[grpo]
max_steps = 1
warmup_steps = 0
num_generations = 2
gradient_accumulation = 2
max_new_tokens = 8
stage_a_photos = 2
bootstrap_samples = 100
"""
_DELIVERED: Final = (
    "export STAGE_A_SETTINGS=settings.toml",
    "stage-a materialize --mission 挡风板安装检查 --mission RRU线缆 --mission BBU线缆布放",
)


@dataclass(frozen=True, slots=True)
class Reader:
    """`files` are saved, `typed` is typed before the page; its places are those of pages."""

    exported: Mapping[str, str] = field(default_factory=lambda: dict(_PLACES))
    files: Mapping[str, str] = field(default_factory=dict)
    typed: tuple[str, ...] = ()
    servers: bool = False
    store: bool = False


_OF_STAGE_B: Final = Reader(
    exported={**_PLACES, "STAGE_A_OUTPUT_DIR": "output"},
    files={"settings.toml": _TRAINED},
    typed=_DELIVERED,
)
READERS: Final[Mapping[str, Reader]] = {
    "README.md": Reader(
        exported={}, typed=("stage-a demo tree --root demo_run/photos --mission 挡风板安装检查 --groups 2",)
    ),
    "docs/tutorial.md": Reader(exported={}),
    "docs/how-to.md": Reader(exported={}),
    "docs/ms-swift.md": _OF_STAGE_B,
    "docs/object-stores.md": Reader(exported={}, store=True),
    "docs/performance.md": Reader(files={"settings.toml": _FAST, "served.toml": _SERVED}, servers=True),
    "docs/reassembly.md": Reader(),
    "docs/servers.md": Reader(servers=True),
    "docs/stage-b.md": _OF_STAGE_B,
}
"""Of other pages, the reader has said where photos and output are."""


@contextmanager
def elsewhere(reader: Reader, photos: Path) -> Iterator[Mapping[str, str]]:
    """The servers and the store that the page's addresses stand for, and what to write in their place."""
    replaced = {}
    with ExitStack() as stack:
        if reader.servers:
            url = stack.enter_context(serving()).url.removesuffix("/v1")
            replaced |= {"http://gpu-1:8000": url, "http://gpu-2:8000": url}
        if reader.store:
            proxy = stack.enter_context(serve())
            Store(proxy, "photos").put_tree(photos, "2024")
            Store(proxy, "results")
            replaced |= {"https://minio.example.org:9000": proxy.url}
        yield replaced
