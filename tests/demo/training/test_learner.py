"""What a step of learning weighs, and which weights each optimiser changes."""

from types import SimpleNamespace

import pytest
import torch

from stage_a_pipeline.demo.training.corpus import tokenizer_corpus
from stage_a_pipeline.demo.training.learner import CellTruthCodec, Learner, _build_optimisers, _values_loss
from stage_a_pipeline.demo.training.model import build_model
from stage_a_pipeline.demo.training.supervision import all_states, channel_count
from stage_a_pipeline.demo.training.tokenizer import train_tokenizer
from stage_a_pipeline.demo.training.train import Optimisation
from tests.demo.conftest import MISSIONS

TIDY, LOOSE = all_states()["电线", "捆扎", "整齐"], all_states()["电线", "捆扎", "散乱"]


@pytest.fixture(scope="module")
def model():
    return build_model(train_tokenizer(tokenizer_corpus(MISSIONS, scenes=50, groups=10)))


def read_and_truth(tidy, loose):
    """One picture of three cells: tidy wires, loose ones, nothing."""
    truth = torch.zeros(1, 3, channel_count())
    truth[0, 0, TIDY] = truth[0, 1, LOOSE] = 1
    read = torch.zeros(1, 3, channel_count())
    read[0, :, TIDY], read[0, :, LOOSE] = torch.tensor(tidy), torch.tensor(loose)
    return read, truth


def test_telling_values_apart_is_all_that_the_values_loss_rewards():
    right = _values_loss(*read_and_truth([9.0, -9.0, 0.0], [-9.0, 9.0, 0.0]))
    undecided = _values_loss(*read_and_truth([5.0, 5.0, 5.0], [5.0, 5.0, 5.0]))
    wrong = _values_loss(*read_and_truth([-9.0, 9.0, 0.0], [9.0, -9.0, 0.0]))
    assert right < 1e-4
    assert undecided == pytest.approx(torch.log(torch.tensor(2.0)).item())
    assert wrong > 10


def test_a_cell_that_both_values_cover_decides_nothing():
    read, truth = read_and_truth([9.0, 9.0, 0.0], [-9.0, -9.0, 0.0])
    truth[0, 1, TIDY] = 1
    assert _values_loss(read, truth) < 1e-4


def test_pictures_without_values_cost_nothing_and_have_a_gradient():
    read = torch.zeros(1, 3, channel_count(), requires_grad=True)
    loss = _values_loss(read, torch.zeros(1, 3, channel_count()))
    loss.backward()
    assert loss == 0
    assert not read.grad.any()


def test_every_weight_is_changed_by_one_optimiser_and_matrices_of_layers_by_muon(model):
    codec = CellTruthCodec(model.config.text_config.hidden_size)
    muon, adamw = _build_optimisers(model, codec, Optimisation())
    changed = [
        id(weight) for one in (muon, adamw) for group in one.param_groups for weight in group["params"]
    ]
    expected = [id(weight) for weight in (*model.parameters(), *codec.parameters())]
    assert sorted(changed) == sorted(expected)
    names = {id(weight): name for name, weight in model.named_parameters()}
    by_muon = {names[id(weight)] for weight in muon.param_groups[0]["params"]}
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in by_muon
    assert "model.visual.blocks.0.attn.qkv.weight" in by_muon
    assert not any("embed" in name or "norm" in name for name in by_muon)


@pytest.mark.parametrize(("gaps", "lowest", "highest"), [(True, 0.015, 0.03), (False, 0.0, 0.005)])
def test_only_with_gaps_a_part_of_the_embedded_truth_is_missing(gaps, lowest, highest):
    torch.manual_seed(1)
    learner = SimpleNamespace(_codec=SimpleNamespace(embed=lambda truth: truth))
    embedded = Learner._noisy_embedding(learner, torch.ones(1, 1000, 100), gaps=gaps)
    assert lowest <= (embedded < 0.5).float().mean() <= highest
