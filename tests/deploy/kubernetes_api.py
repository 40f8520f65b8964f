"""As much of Kubernetes' API as dagster-k8s uses, on loopback; the container of a Job is a process here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import yaml

JOBS = re.compile(r"/apis/batch/v1/namespaces/[^/]+/jobs(?:/(?P<name>[^/?]+)(?:/status)?)?(?:\?.*)?")
PODS = re.compile(r"/api/v1/namespaces/[^/]+/pods/(?P<name>[^/?]+)")


class KubernetesApi:
    """Takes Jobs, starts their commands in an environment, and tells how they are."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, psutil.Popen] = {}
        self._folder = folder
        self._environment = environment
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def kubeconfig(self) -> Path:
        """The file by which a client finds this server."""
        path = self._folder / "kubeconfig"
        server = f"http://127.0.0.1:{self._server.server_address[1]}"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": server}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [
                {"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "stage-a"}}
            ],
            "current-context": "here",
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def create(self, job: dict[str, Any]) -> None:
        """Start the only container of a Job, with its arguments and its variables."""
        name = job["metadata"]["name"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        given = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
        with (self._folder / f"{name}.log").open("wb") as log:
            self.processes[name] = psutil.Popen(
                container["args"],
                env=os.environ | self._environment | given,
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.jobs[name] = job

    def status(self, name: str) -> dict[str, Any]:
        """A Job as Kubernetes tells it, with how many of its pods are active, have succeeded or failed."""
        code = self.processes[name].poll()
        state = "active" if code is None else "failed" if code else "succeeded"
        return self.jobs[name] | {"status": {state: 1}}

    def op_of(self, name: str) -> str:
        """The step that a Job is for."""
        labels: Mapping[str, str] = self.jobs[name]["metadata"]["labels"]
        return labels["dagster/op"]

    def close(self) -> None:
        """Stop the server, and kill what Jobs have left."""
        self._server.shutdown()
        self._server.server_close()
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def _handler(api: KubernetesApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            job = json.loads(self.rfile.read(int(self.headers["content-length"])))
            api.create(job)
            self._answer(201, job)

        def do_GET(self) -> None:
            found = JOBS.fullmatch(self.path)
            name = found["name"] if found else None
            if name in api.jobs:
                self._answer(200, api.status(name))
            elif pod := PODS.fullmatch(self.path):
                self._answer(
                    200, {"kind": "Pod", "metadata": {"name": pod["name"], "uid": f"uid of {pod['name']}"}}
                )
            else:
                self._answer(404, {"kind": "Status", "status": "Failure", "message": f"no {self.path}"})

        def _answer(self, code: int, document: Mapping[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler
