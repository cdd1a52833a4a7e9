import torch
from torch import Tensor

from training.labs.ddpm import DDPMConfig, Denoiser
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
