"""Small models of diffraction patterns, as files."""

from __future__ import annotations

import io
import json
import warnings
import zipfile

import torch

from tests.reassembly.scans import SIDE


class Model(torch.nn.Module):
    """Patches whose amplitude is that of the patterns, times a weight; `kind` says how they are returned."""

    def __init__(self, kind: str = "complex") -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.kind = kind

    def forward(self, patterns):
        amplitude = patterns * self.weight
        phase = 0.1 * patterns
        match self.kind:
            case "pair":
                return amplitude, phase
            case "channel":
                return torch.polar(amplitude, phase).unsqueeze(-1)
            case "real":
                return amplitude
            case "cropped":
                return torch.polar(amplitude, phase)[:, 1:, 1:]
            case "triple":
                return amplitude, phase, phase
            case "broken":
                return torch.polar(amplitude, phase) / 0
        return torch.polar(amplitude, phase)


def save_exported(path, *, kind="complex", fixed=None):
    """A torch.export archive; `fixed` is a batch dimension that does not change."""
    dynamic = None if fixed else ({0: torch.export.Dim.DYNAMIC},)
    example = torch.ones(fixed or 4, SIDE, SIDE)
    program = torch.export.export(Model(kind).eval(), (example,), dynamic_shapes=dynamic)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, path)
    return path


class Forgetful(torch.nn.Module):
    """Patches of which training forgets half."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, patterns):
        return torch.complex(self.dropout(patterns), 0 * patterns)


def save_forgetful(path):
    """A TorchScript archive that was saved in training mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Forgetful().train()).save(str(path))


def save_torchscript(path, *, kind="complex"):
    """A TorchScript archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        model = Model(kind).eval()
        torch.jit.trace(model, torch.ones(4, SIDE, SIDE), check_trace=False).save(str(path))
    return path


def rewrite(path, changes):
    """An archive with other members: `changes` maps a name to its new content, or to a function of the old."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(members)).partition("/")[0]
    for name, change in changes.items():
        old = members.get(f"{folder}/{name}", b"")
        members[f"{folder}/{name}"] = change(old) if callable(change) else change
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def pickled(value):
    """As torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def changed_json(change):
    """A function for `rewrite` that changes a document in place."""

    def changed(old):
        document = json.loads(old)
        change(document)
        return json.dumps(document).encode()

    return changed
