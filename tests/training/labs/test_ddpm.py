import pytest
import torch
from torch import Tensor

from training.config import ConfigError
from training.labs.ddpm import DDPMConfig, Denoiser
from training.labs.ddpm_network import Layer, PixelTransformer
from training.labs.diffusion import cosine_schedule, denoise


def test_ddim_without_eta_depends_on_the_start_alone_and_with_it_on_the_generator() -> None:
    torch.manual_seed(0)
    config = DDPMConfig(resolution=16, channels=32, layers=1, timesteps=20, sampling_steps=5)
    network, schedule, start = Denoiser(config), cosine_schedule(20), torch.randn(1, 3, 16, 16)

    def end(eta: float, seed: int) -> Tensor:
        random = torch.Generator().manual_seed(seed)
        *_, (_, x, _) = denoise(network, start, schedule, "v", 5, eta, random)
        return x

    assert torch.equal(end(0.0, seed=0), end(0.0, seed=1))
    assert not torch.equal(end(1.0, seed=0), end(1.0, seed=1))


def test_an_untrained_layer_changes_nothing() -> None:
    tokens = torch.randn(2, 16, 32)
    assert torch.equal(Layer(32)(tokens, torch.randn(2, 32)), tokens)


def test_every_pixel_of_the_photo_may_depend_on_every_pixel_and_on_the_timestep() -> None:
    """All tokens see each other, and the layers are steered by t, once they are trained a bit."""
    torch.manual_seed(0)
    network = PixelTransformer(16, 32, 1)
    for layer in network.layers:
        torch.nn.init.normal_(layer.steer.weight)
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([5])
    seen = network(x, t)
    assert seen.shape == x.shape and seen.dtype == torch.float32
    other = x.clone()
    other[..., -4:, -4:] += 10
    assert not torch.equal(network(other, t)[..., :4, :4], seen[..., :4, :4])
    assert not torch.equal(network(x, torch.tensor([900])), seen)


@pytest.mark.parametrize(("key", "value"), [("resolution", 30), ("channels", 40), ("layers", 0)])
def test_a_size_that_cannot_be_built_is_named_with_its_value(key: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{key}.* {value}"):
        DDPMConfig(**{key: value})  # type: ignore[arg-type]
