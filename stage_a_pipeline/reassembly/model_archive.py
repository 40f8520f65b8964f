"""Whether a model's file can be loaded without running what it holds as Python, looked up before it is.

TorchScript and torch.export archives are zip files. Both hold weights as plain bytes, but torch.export
falls back on pickle for what it cannot store so, and takes operators and sizes by name; `model.pt` may be a
pickle of a whole module. What is let through are tensors and the operators of torch. Nobody has proven that
those do no harm: a model of unknown origin is still not to be run.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final, NoReturn

from stage_a_pipeline.errors import ReassemblyError

_PICKLED_PREFIXES: Final = ("custom_obj_", "opaque_obj_")
_COMPILED: Final = "data/aotinductor/"
_OPERATOR: Final = re.compile(r"torch\.ops\.[\w.]+|(torch\._?sym|_operator\.|math\.)\w+")
"""What a step of a graph may call; torch.export takes any path below the module torch, other modules too."""
_FORMULA: Final = re.compile(
    r"(?:'\w+'|'\d+\.\d+'|(?:[A-Z]\w*|floor|ceiling)\(|\w+(?!\()\b|\.\d|[ )+\-*/%,=<>~&|])*"
)
"""What a size may be; torch.export has sympy evaluate it as Python, where `exec('...')` would be one too."""
_MALFORMED: Final = (ValueError, TypeError, AttributeError)
_EXPORT_AGAIN: Final = "export the model again with torch.export.save of the torch that is installed"


def require_torchscript(path: Path) -> None:
    """ReassemblyError unless the file is a TorchScript archive, as torch.jit.save writes it."""
    names = _names(path, wanted="TorchScript")
    if not any(name.endswith("/constants.pkl") for name in names):
        raise ReassemblyError(
            f"{path}: not TorchScript; a pickle of weights or of a module is not loaded, because it could "
            "run any code. Save the model with torch.jit.save, or as model.pt2 with torch.export.save"
        )


def require_plain_export(path: Path) -> None:
    """ReassemblyError unless the file is a torch.export archive that is loaded without running a pickle."""
    names = _names(path, wanted="a torch.export archive")
    models = [name for name in names if name.startswith("models/") and name.endswith(".json")]
    if models != ["models/model.json"]:
        raise ReassemblyError(
            f"{path}: no torch.export archive of one model in the present format; {_EXPORT_AGAIN}"
        )
    for name in names:
        if name.startswith(_COMPILED):
            _refuse(path, name, "compiled code")
        if name.startswith(("data/weights/", "data/constants/")):
            if name.endswith("_config.json"):
                _require_plain_payloads(path, name)
            elif name.endswith(".pt"):
                _refuse(path, name, "a pickle")
        elif name.startswith("data/sample_inputs/"):
            _require_tensors(path, name)
    _require_plain_graph(path, _document(path, "models/model.json"))


def _require_plain_payloads(path: Path, name: str) -> None:
    payloads = _document(path, name).get("config", {})
    for entry in payloads.values() if isinstance(payloads, dict) else ():
        if not isinstance(entry, dict):
            continue
        if entry.get("use_pickle") or str(entry.get("path_name")).startswith(_PICKLED_PREFIXES):
            _refuse(path, name, "a pickle")


def _require_tensors(path: Path, name: str) -> None:
    """Sample inputs are a pickle in any case: torch loads it as tensors only, or else as anything."""
    import pickle

    import torch

    content = _member(path, name)
    if not content:
        return
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, *_MALFORMED) as error:
        raise _refusal(path, name, "a pickle of other things than tensors") from error


def _require_plain_graph(path: Path, document: Any) -> None:
    """Graphs nest in each other: every mapping is looked at, wherever it lies."""
    todo = [document]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            for key, plain in (("target", _OPERATOR), ("expr_str", _FORMULA)):
                text = node.get(key)
                if isinstance(text, str) and not plain.fullmatch(text):
                    _refuse(path, "models/model.json", f"the {key} {text[:60]!r}")
            todo += node.values()
        elif isinstance(node, list):
            todo += node


def _refuse(path: Path, name: str, what: str) -> NoReturn:
    raise _refusal(path, name, what)


def _refusal(path: Path, name: str, what: str) -> ReassemblyError:
    return ReassemblyError(
        f"{path}: its {name} holds {what}, which could run any code when it is loaded, and is refused; "
        "export a model of plain tensors, or save its patches as patches.npz"
    )


def _names(path: Path, *, wanted: str) -> list[str]:
    """The members, without the folder that all of them lie in."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise ReassemblyError(
            f"{path}: not {wanted}, nor any archive ({error}); save the model anew"
        ) from error
    if (
        len({name.lower() for name in names}) != len(names)
        or len({name.partition("/")[0] for name in names}) != 1
    ):
        # Which of two members of one name is loaded is the reader's choice, and torch's does not tell case.
        raise ReassemblyError(f"{path}: not {wanted} as torch writes it, with each member once; save it anew")
    return [name.partition("/")[2] for name in names] if wanted != "TorchScript" else names


def _document(path: Path, name: str) -> dict[str, Any]:
    try:
        document = json.loads(_member(path, name))
    except (ValueError, RecursionError) as error:
        raise ReassemblyError(f"{path}: its {name} is no JSON ({error}); {_EXPORT_AGAIN}") from error
    if not isinstance(document, dict):
        raise ReassemblyError(f"{path}: its {name} is no mapping; {_EXPORT_AGAIN}")
    return document


def _member(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            full = next(entry for entry in archive.namelist() if entry.partition("/")[2] == name)
            return archive.read(full)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise ReassemblyError(f"{path}: its {name} cannot be read ({error}); {_EXPORT_AGAIN}") from error
