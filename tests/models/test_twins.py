import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from models.twins import TwinRows, layers_before_prompt

FIRST, WITHOUT = "CrossAttnDownBlock2D", "DownBlock2D"


def unet_of(*down: str, only_cross_attention: bool = False) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=down,
        up_block_types=tuple(kind.replace("Down", "Up") for kind in reversed(down)),
        layers_per_block=2,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
        only_cross_attention=only_cross_attention,
    ).eval()


def twins_and_prompts() -> tuple[Tensor, Tensor, Tensor]:
    """Two pictures, each with its two rows of guidance."""
    latents = torch.randn(2, 4, 16, 8).repeat_interleave(2, dim=0)
    return latents, torch.tensor([900.0, 900.0, 30.0, 30.0]), torch.randn(4, 7, 16)


@pytest.mark.parametrize("down", [(FIRST, WITHOUT), (WITHOUT, FIRST)], ids=" ".join)
@pytest.mark.parametrize("only_cross_attention", [False, True])
@torch.inference_mode()
def test_outputs_stay_the_same(down: tuple[str, str], only_cross_attention: bool) -> None:
    unet, inputs = unet_of(*down, only_cross_attention=only_cross_attention), twins_and_prompts()
    wanted = unet(*inputs).sample
    twins = TwinRows(unet)
    with twins.use(True):
        torch.testing.assert_close(unet(*inputs).sample, wanted)
    torch.testing.assert_close(unet(*inputs).sample, wanted, rtol=0, atol=0)


@torch.inference_mode()
def test_layers_ahead_of_the_prompt_see_each_picture_once() -> None:
    unet = unet_of(WITHOUT, FIRST)
    twins, rows = TwinRows(unet), {}

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows[layer] = len(inputs[0])

    leaves = [layer for layer in unet.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in leaves:
        layer.register_forward_hook(count)
    with twins.use(True):
        unet(*twins_and_prompts())
    once = {part for layer in layers_before_prompt(unet) for part in layer.modules()}
    assert {rows[layer] for layer in leaves if layer in once} == {2}
    assert {rows[layer] for layer in leaves if layer not in once} == {4}


@pytest.mark.parametrize(("only_cross_attention", "last"), [(False, "attn1"), (True, "proj_in")])
def test_an_attention_that_reads_the_prompt_is_not_shared(
    only_cross_attention: bool, last: str
) -> None:
    unet = unet_of(FIRST, WITHOUT, only_cross_attention=only_cross_attention)
    names = {layer: name for name, layer in unet.named_modules()}
    assert names[list(layers_before_prompt(unet))[-1]].endswith(last)
