"""Models of both kinds predict the same, and what does not fit is told."""

import numpy as np
import pytest

from stage_a_pipeline.errors import ConfigurationError, ReassemblyError
from stage_a_pipeline.reassembly.device import choose_device
from stage_a_pipeline.reassembly.model_folder import find_model
from stage_a_pipeline.reassembly.model_prediction import load_predictor
from tests.reassembly.models import save_exported, save_forgetful, save_torchscript
from tests.reassembly.scans import SIDE

PATTERNS = np.random.default_rng(0).uniform(0.5, 1, (7, SIDE, SIDE)).astype(np.float32)
EXPECTED = PATTERNS * np.exp(0.1j * PATTERNS)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of models by kind, made when they are asked for."""
    root = tmp_path_factory.mktemp("models")

    def folder(kind):
        path = root / kind
        if not path.exists():
            save_torchscript(path / "model.pt", kind=kind)
        return path

    return folder


def loaded(folder):
    return load_predictor(find_model(folder), "cpu")


def test_an_exported_model_predicts_any_number_of_patches(tmp_path):
    save_exported(tmp_path / "model.pt2")
    predictor = loaded(tmp_path)
    for count in (7, 1, 3):
        found = predictor.predict(PATTERNS[:count])
        assert found.shape == (count, SIDE, SIDE)
        assert found.numpy() == pytest.approx(EXPECTED[:count], abs=1e-6)
    assert predictor.seconds > 0


@pytest.mark.parametrize("kind", ["complex", "pair", "channel"])
@pytest.mark.filterwarnings("error")
def test_patches_are_complex_or_a_pair_of_amplitude_and_phase(models, kind):
    found = loaded(models(kind)).predict(PATTERNS)
    assert found.numpy() == pytest.approx(EXPECTED, abs=1e-6)
    assert not found.requires_grad


def test_a_model_that_was_saved_while_it_learned_forgets_nothing(tmp_path):
    save_forgetful(tmp_path / "model.ts")
    assert loaded(tmp_path).predict(PATTERNS).real.numpy().tolist() == PATTERNS.tolist()


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("real", r"model.pt: returns float32 of shape \(7, 16, 16\); a model returns complex patches"),
        ("cropped", r"model.pt: returns patches of shape \(7, 15, 15\) for patterns of shape \(7, 16, 16\)"),
        ("triple", r"model.pt: returns a tuple of \(float32 of shape .*amplitude and phase"),
    ],
)
def test_what_is_no_patch_is_told(models, kind, told):
    with pytest.raises(ReassemblyError, match=told):
        loaded(models(kind)).predict(PATTERNS)


def test_a_batch_dimension_that_is_fixed_is_told_with_the_remedy(tmp_path):
    save_exported(tmp_path / "model.pt2", fixed=4)
    predictor = loaded(tmp_path)
    predictor.predict(PATTERNS[:4])
    with pytest.raises(
        ReassemblyError, match=r"3 patterns of 16x16 pixels at once failed, where 4 did not .* dynamic batch"
    ):
        predictor.predict(PATTERNS[4:])
    with pytest.raises(ReassemblyError, match=r"5 patterns .* failed .*one that is the predict batch size"):
        loaded(tmp_path).predict(PATTERNS[:5])


def test_an_archive_that_is_cut_short_is_told(tmp_path):
    save_torchscript(tmp_path / "model.pt")
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReassemblyError, match=r"model.pt: not TorchScript, nor any archive"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nonsense", "device 'nonsense' is none; give `auto`, `cpu` or `cuda:0`"),
        ("meta", "device 'meta' is not known here"),
        ("cuda:99", r"device 'cuda:99' is not there, torch sees \d+ GPUs"),
    ],
)
def test_a_device_that_is_not_there_is_told(name, told):
    with pytest.raises(ConfigurationError, match=told):
        choose_device(name)
