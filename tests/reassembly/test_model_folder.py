"""What is taken of a folder that holds several things."""

import pytest

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.model_folder import find_model

ORDER = ("reconstruction.npz", "patches.npz", "patches.npy", "model.pt2", "model.pt", "model.ts")
KINDS = ("reconstruction", "patches", "patches", "exported", "torchscript", "torchscript")


@pytest.mark.parametrize(("first", "kind"), list(enumerate(KINDS)))
def test_the_first_of_several_is_taken(tmp_path, first, kind):
    for name in ORDER[first:]:
        (tmp_path / name).touch()
    found = find_model(tmp_path)
    assert (found.path.name, found.kind) == (ORDER[first], kind)
    assert tuple(other.name for other in found.others) == ORDER[first + 1 :]


@pytest.mark.parametrize(
    ("files", "offsets"),
    [
        (["patches.npz", "offsets.npy"], "patches.npz"),
        (["patches.npy", "offsets.npy"], "offsets.npy"),
        (["patches.npy"], None),
    ],
)
def test_positions_lie_with_the_patches_or_beside_them(tmp_path, files, offsets):
    for name in files:
        (tmp_path / name).touch()
    found = find_model(tmp_path).offsets
    assert (found and found.name) == offsets


def test_an_empty_folder_is_told_with_all_that_was_looked_for(tmp_path):
    (tmp_path / "wts.h5").touch()
    with pytest.raises(ReassemblyError, match=f"{tmp_path} holds no model; looked for") as told:
        find_model(tmp_path)
    assert all(name in str(told.value) for name in ORDER)


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_folder_is_told(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ReassemblyError, match=rf"{name} is not an existing folder.*patches\.npz"):
        find_model(tmp_path / name)
