"""Photos as the image processor would hand them over, by way of bytes."""

from random import Random

import pytest
import torch
from PIL import Image as Pillow

from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.loading import load_processor
from stage_a_pipeline.engines.patches import Patches
from stage_a_pipeline.errors import CheckpointError


@pytest.fixture
def image_processor():
    return load_processor(resolve_checkpoint("builtin")).image_processor


def noise(width, height, seed):
    return Pillow.frombytes("RGB", (width, height), Random(seed).randbytes(width * height * 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "statistics",
    [
        {},
        {
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
        {"do_normalize": False},
        {"do_rescale": False},
    ],
    ids=["the demo's", "another per channel", "not normalised", "not rescaled"],
)
def test_the_numbers_are_bit_for_bit_the_image_processor_s(image_processor, statistics, dtype):
    for name, value in statistics.items():
        setattr(image_processor, name, value)
    patches = Patches(image_processor, dtype=dtype, device=torch.device("cpu"))
    images = [noise(256, 192, 1), noise(160, 288, 2), noise(32, 32, 3), Pillow.new("RGB", (64, 96), "white")]
    expected = image_processor(images=images, do_resize=False, return_tensors="pt")
    prepared = [patches.prepare(image) for image in images]
    assert torch.equal(patches.pixel_values(prepared), expected["pixel_values"].to(dtype))
    assert torch.equal(torch.cat([photo.image_grid_thw for photo in prepared]), expected["image_grid_thw"])


@pytest.mark.parametrize("size", [(256, 192), (160, 288), (32, 32)])
def test_the_image_can_be_had_back_from_its_patches(image_processor, size):
    image = noise(*size, 4)
    photo = Patches(image_processor, dtype=torch.float32, device=torch.device("cpu")).prepare(image)
    assert (photo.mode, photo.size) == ("RGB", size)
    assert photo.tobytes() == image.tobytes()


def test_a_photo_that_waits_takes_as_many_bytes_as_it_has_pixels_and_channels(image_processor):
    patches = Patches(image_processor, dtype=torch.float32, device=torch.device("cpu"))
    photo = patches.prepare(noise(256, 192, 1))
    assert photo.pixels.dtype == torch.uint8
    assert photo.pixels.numel() == 3 * 256 * 192
    assert photo.pixels.untyped_storage().nbytes() == 3 * 256 * 192


class Altered:
    """An image processor whose photos or results are changed."""

    def __init__(self, processor, *, photo=lambda image: image, result=lambda features: features):
        self.processor, self.photo, self.result = processor, photo, result

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, images, **options):
        return self.result(self.processor([self.photo(image) for image in images], **options))


@pytest.mark.parametrize(
    "alteration",
    [
        {"photo": lambda image: image.transpose(Pillow.Transpose.TRANSPOSE)},
        {"result": lambda features: {**features, "pixel_values": features["pixel_values"][:-4]}},
        {"result": lambda features: {**features, "pixel_values": features["pixel_values"][:, :-1]}},
        {"result": lambda features: {**features, "image_grid_thw": features["image_grid_thw"] + 1}},
    ],
    ids=["across before down", "fewer patches", "fewer values", "another grid"],
)
def test_an_image_processor_that_cuts_otherwise_is_refused(image_processor, alteration):
    with pytest.raises(CheckpointError, match="Altered does not cut photos as Qwen3-VL's does"):
        Patches(Altered(image_processor, **alteration), dtype=torch.float32, device=torch.device("cpu"))
