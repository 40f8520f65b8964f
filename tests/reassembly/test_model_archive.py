"""Archives that would run code when they are loaded, each of them a file that does."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.model_archive import require_plain_export, require_torchscript
from tests.reassembly.models import Model, changed_json, pickled, rewrite, save_exported, save_torchscript

WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
GRAPH = "models/model.json"


class Touch:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return save_exported(tmp_path_factory.mktemp("exported") / "model.pt2")


@pytest.fixture
def archive(exported, tmp_path):
    return Path(shutil.copy(exported, tmp_path / "model.pt2"))


def use_pickle(document):
    document["config"]["weight"]["use_pickle"] = True


def opaque(document):
    document["config"]["thing"] = {
        "path_name": "opaque_obj_0",
        "is_param": False,
        "use_pickle": True,
        "tensor_meta": None,
    }


def first_step(target):
    def change(document):
        document["graph_module"]["graph"]["nodes"][0]["target"] = target

    return changed_json(change)


def first_size(formula):
    def change(document):
        values = document["graph_module"]["graph"]["tensor_values"]
        values["patterns"]["sizes"][0]["as_expr"]["expr_str"] = formula

    return changed_json(change)


CASES = {
    "weights": ({WEIGHTS: changed_json(use_pickle), "data/weights/weight_0": Touch}, "a pickle"),
    "constants": ({CONSTANTS: changed_json(opaque), "data/constants/opaque_obj_0": Touch}, "a pickle"),
    "old weights": ({"data/weights/model.pt": Touch}, "a pickle"),
    "old constants": ({"data/constants/model.pt": Touch}, "a pickle"),
    "sample inputs": ({"data/sample_inputs/model.pt": Touch}, "a pickle of other things than tensors"),
    "operator": ({GRAPH: first_step("torch.serialization.os.mkdir")}, "the target 'torch.serialization"),
    "extension": ({GRAPH: first_step("#x:os.mkdir")}, "the target '#x:os"),
    "size": ({GRAPH: first_size("exec('import os')")}, "the expr_str"),
    "attribute": ({GRAPH: first_size("Symbol('s').func")}, "the expr_str"),
    "library": ({"data/aotinductor/model/code.so": b"x"}, "compiled code"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_archive_that_would_run_code_is_refused(archive, tmp_path, case):
    changes, told = CASES[case]
    left = tmp_path / "left"
    rewrite(archive, {name: pickled(Touch(left)) if to is Touch else to for name, to in changes.items()})
    with pytest.raises(ReassemblyError, match=f"model.pt2: its .* holds {told}.*is refused"):
        require_plain_export(archive)
    assert not left.exists()


@pytest.mark.parametrize("name", [WEIGHTS, CONSTANTS, GRAPH])
@pytest.mark.parametrize(
    ("content", "told"), [(b"{", "is no JSON"), (b"[" * 100_000, "is no JSON"), (b"[]", "is no mapping")]
)
def test_an_archive_that_is_damaged_is_told(archive, name, content, told):
    rewrite(archive, {name: content})
    with pytest.raises(ReassemblyError, match=rf"model\.pt2: its {name} {told}.*export"):
        require_plain_export(archive)


@pytest.mark.parametrize(
    "formula",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))",
        "FloorDiv(Symbol('s0', integer=True), Integer(2))",
        "s77",
        "4*s0 + 1",
        "floor(Mul(Float('0.5', precision=53), Symbol('s0', integer=True)))",
    ],
)
def test_sizes_that_are_formulas_are_not_refused(archive, formula):
    rewrite(archive, {GRAPH: first_size(formula)})
    require_plain_export(archive)


def test_a_pickle_under_the_name_of_torchscript_is_refused(tmp_path):
    whole = tmp_path / "model.pt"
    torch.save(Model().state_dict(), whole)
    with pytest.raises(ReassemblyError, match=r"model.pt: not TorchScript; a pickle .* could run any code"):
        require_torchscript(whole)


@pytest.mark.parametrize("check", [require_torchscript, require_plain_export])
@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"PK\x03\x04 and no more"])
def test_what_is_no_archive_is_told(tmp_path, check, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ReassemblyError, match=r"model.pt: not (TorchScript|a torch.export archive), nor any"):
        check(path)


def test_an_archive_of_two_members_of_one_name_is_refused(archive):
    rewrite(archive, {GRAPH.upper(): b"{}"})
    with pytest.raises(ReassemblyError, match="with each member once"):
        require_plain_export(archive)


def test_one_kind_of_archive_is_not_taken_for_the_other(archive, tmp_path):
    script = save_torchscript(tmp_path / "model.pt")
    require_torchscript(script)
    require_plain_export(archive)
    with pytest.raises(ReassemblyError, match="not TorchScript"):
        require_torchscript(archive)
    with pytest.raises(ReassemblyError, match=r"no torch.export archive of one"):
        require_plain_export(script)
