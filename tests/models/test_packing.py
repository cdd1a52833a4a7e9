from copy import deepcopy

import pytest
import torch
from torch import nn

from models.packing import PackedConv2d, PackedLinear, can_pack, pack
from tests.models.shapes import small_unet


@torch.inference_mode()
def test_pictures_of_any_size_and_number_stay_the_same_to_the_bit() -> None:
    plain = small_unet(torch.bfloat16).to(memory_format=torch.channels_last)
    packed = deepcopy(plain)
    pack(packed)
    kinds = {type(layer) for layer in packed.modules()} & {PackedConv2d, PackedLinear}
    assert kinds == ({PackedConv2d, PackedLinear} if can_pack() else set())
    for rows, height, width in ((2, 8, 8), (5, 8, 8), (2, 16, 8), (1, 8, 16), (2, 8, 8)):
        latents = torch.randn(rows, 4, height, width, dtype=torch.bfloat16)
        latents = latents.contiguous(memory_format=torch.channels_last)
        text, times = torch.randn(rows, 7, 32, dtype=torch.bfloat16), torch.full((rows,), 400.0)
        wanted = plain(latents, times, text).sample
        assert torch.equal(packed(latents, times, text).sample, wanted), (rows, height, width)


@pytest.mark.skipif(not can_pack(), reason="oneDNN packs no bf16 weights for this processor")
@torch.inference_mode()
def test_weights_are_kept_once() -> None:
    layer = nn.Linear(6, 4).to(torch.bfloat16)
    before = layer.weight
    pack(layer)
    layer(torch.randn(2, 6, dtype=torch.bfloat16))
    assert layer.weight.shape == before.shape
    assert layer.weight.dtype == torch.bfloat16
    assert layer.weight.untyped_storage().nbytes() == 2
    assert layer.weight.isnan().all()


def test_other_dtypes_are_left_as_they_are() -> None:
    unet = small_unet(torch.float32)
    pack(unet)
    assert PackedConv2d not in {type(layer) for layer in unet.modules()}
