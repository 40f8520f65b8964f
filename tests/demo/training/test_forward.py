"""The batched arithmetic of training is transformers' own."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, RepetitionPenaltyLogitsProcessor

from stage_a_pipeline.demo.photos import PHOTO_SIZES
from stage_a_pipeline.demo.training.batches import IGNORED, PICTURE_SIZES, BatchMaker, pack_rows, to_patches
from stage_a_pipeline.demo.training.corpus import tokenizer_corpus
from stage_a_pipeline.demo.training.forward import language_states, penalise_repetition, vision_features
from stage_a_pipeline.demo.training.model import CELL, MAX_PIXELS, MIN_PIXELS, build_model, save_checkpoint
from stage_a_pipeline.demo.training.tokenizer import train_tokenizer
from stage_a_pipeline.photo_sizes import fit_pixels
from tests.demo.conftest import MISSIONS


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(tokenizer_corpus(MISSIONS, scenes=200, groups=50))


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    model = build_model(tokenizer).eval()
    for merger in model.model.visual.deepstack_merger_list:
        torch.nn.init.normal_(merger.linear_fc2.weight, std=0.05)
    return model


@pytest.mark.parametrize("number", range(4))
def test_logits_equal_those_of_the_library(model, tokenizer, number):
    batch = BatchMaker(tokenizer, rows=3, seed="forward").make("J", number)
    with torch.no_grad():
        features, stacked = vision_features(model, batch.patches.float(), batch.grid)
        states = language_states(
            model,
            batch.tokens,
            features=features,
            stacked=stacked,
            image_start=batch.image_start,
            grid=batch.grid,
        )
        # The library wants both frames of the patch convolution, which a still picture fills alike.
        both_frames = batch.patches.float().view(-1, 3, 1, 256).repeat(1, 1, 2, 1).reshape(-1, 1536)
        expected = model(
            input_ids=batch.tokens,
            attention_mask=torch.ones_like(batch.tokens),
            pixel_values=both_frames,
            image_grid_thw=torch.tensor([[1, *batch.grid]] * 3),
            mm_token_type_ids=(batch.tokens == model.config.image_token_id).int(),
        ).logits
    assert torch.allclose(model.lm_head(states), expected, atol=1e-4)


def test_patches_equal_those_of_the_image_processor(tokenizer, model, tmp_path):
    save_checkpoint(model, tokenizer, tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    pixels = np.random.default_rng(0).integers(0, 256, (192, 256, 3), np.uint8)
    expected = processor(images=Image.fromarray(pixels), return_tensors="np")["pixel_values"]
    first_frame = expected.reshape(-1, 3, 2, 256)[:, :, 0].reshape(1, -1, 768)
    assert np.allclose(to_patches(pixels[None]), first_frame, atol=1e-5)


def test_repetition_is_penalised_as_the_library_does():
    torch.manual_seed(0)
    tokens = torch.randint(0, 12, (3, 9))
    logits = torch.randn(3, 9, 20)
    chosen = torch.rand(3, 9) > 0.4
    penalised = penalise_repetition(logits[chosen], tokens, chosen, 1.3)
    library = RepetitionPenaltyLogitsProcessor(penalty=1.3)
    rows, places = chosen.nonzero(as_tuple=True)
    for number, (row, place) in enumerate(zip(rows.tolist(), places.tolist(), strict=True)):
        expected = library(tokens[row, : place + 1][None], logits[row, place][None].clone())
        assert torch.allclose(penalised[number], expected[0])


@pytest.mark.parametrize("size", PHOTO_SIZES)
def test_the_model_was_trained_on_every_size_at_which_it_sees_the_trees_photos(size):
    assert fit_pixels(*size, factor=CELL, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS) in PICTURE_SIZES


def test_answers_stand_one_position_ahead_of_their_tokens():
    tokens, answers = pack_rows([([1, 2], [3, 4]), ([5], [6])], pad=0)
    assert tokens[:, :5].tolist() == [[1, 2, 3, 4, 0], [5, 6, 0, 0, 0]]
    assert answers[:, :4].tolist() == [[IGNORED, 3, 4, IGNORED], [6, IGNORED, IGNORED, IGNORED]]
