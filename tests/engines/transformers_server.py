"""`transformers serve` on a checkpoint: the real server, started as a process of its own.

    python -m tests.engines.transformers_server CHECKPOINT serve ARGUMENTS

Its own processor for Qwen3-VL needs torchvision, for videos. It is given the one without.
"""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx


@contextmanager
def transformers_serving(checkpoint, log, *, patience=120.0):
    """The URL of a server of that checkpoint, once it is healthy; `log` gets what it says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.engines.transformers_server", str(checkpoint), "serve"]
    command += [str(checkpoint), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=dict(os.environ))
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, process, log, deadline=time.monotonic() + patience)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_healthy(url, process, log, *, deadline):
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"transformers serve did not become healthy: {log.read_text('utf-8')[-2000:]}")


def main():
    from transformers import AutoProcessor
    from transformers.cli.transformers import main as transformers

    from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
    from stage_a_pipeline.engines.loading import load_processor

    checkpoint = resolve_checkpoint(sys.argv.pop(1))
    AutoProcessor.from_pretrained = lambda *_arguments, **_options: load_processor(checkpoint)
    transformers()


if __name__ == "__main__":
    main()
