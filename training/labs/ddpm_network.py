"""The network of `training/labs/ddpm.py`: a transformer over patches of pixels."""

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional as F

from training.labs.attention import attend

PATCH = 4
"""The transformer sees 4 x 4 pixels as one token: 64 of them at 32 px."""
DETAIL = 16
"""Channels of each pixel that the transformer hands to the last convolutions."""
HEAD = 32
"""Channels of one head."""
WAVES = 64
"""Sines and cosines, each, that tell the timestep."""


class Layer(nn.Module):
    """Attention, then two linear layers, on tokens `[B, N, D]`, steered by the timestep `[B, D]`.

    The timestep shifts and scales what each half reads and weighs what it adds, at first by 0: an
    untrained layer changes nothing (adaLN-Zero: Peebles and Xie 2022, arXiv 2212.09748).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.steer = nn.Linear(channels, 6 * channels)
        nn.init.zeros_(self.steer.weight)
        nn.init.zeros_(self.steer.bias)
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)
        self.widen = nn.Linear(channels, 4 * channels)
        self.narrow = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale, share, shift2, scale2, share2 = self.steer(time)[:, None].chunk(6, dim=-1)
        read = self.norm(x) * (1 + scale) + shift
        query, key, value = self.to_qkv(read).unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        mixed, _ = attend(query, key, value)  # for few tokens faster than PyTorch's own on a CPU
        x = x + share * self.to_out(mixed.transpose(1, 2).flatten(2))
        read = self.norm(x) * (1 + scale2) + shift2
        added: Tensor = share2 * self.narrow(F.silu(self.widen(read)))
        return x + added


class PixelTransformer(nn.Module):
    """x_t `[B, 3, R, R]` and t `[B]` to the photo x_0 that is seen in it.

    Noise fills all 48 dimensions of a patch, photos few of them: a network of few channels can say
    a photo, not a noise (Li and He 2025, arXiv 2511.13720). Each token learns what stands at its
    place: eyes above, nose in the middle. Three convolutions over the pixels draw the detail.
    """

    def __init__(self, resolution: int, channels: int, layers: int) -> None:
        super().__init__()
        self.side = resolution // PATCH
        self.to_tokens = nn.Linear(3 * PATCH**2, channels)
        self.places = nn.Parameter(0.02 * torch.randn(self.side**2, channels))
        self.to_time = nn.Sequential(
            nn.Linear(2 * WAVES, channels), nn.SiLU(), nn.Linear(channels, channels), nn.SiLU()
        )
        self.layers = nn.ModuleList(Layer(channels) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)
        self.to_patches = nn.Linear(channels, DETAIL * PATCH**2)
        self.detail = nn.Sequential(
            nn.Conv2d(3 + DETAIL, 32, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 3, 3, padding=1),
        ).to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        waves = get_timestep_embedding(t, 2 * WAVES, downscale_freq_shift=0)
        with torch.autocast("cpu", torch.bfloat16):
            time = self.to_time(waves)
            tokens = self.to_tokens(F.pixel_unshuffle(x, PATCH).flatten(2).mT) + self.places
            for layer in self.layers:
                tokens = layer(tokens, time)
            patches = self.to_patches(self.norm(tokens)).mT.unflatten(2, (self.side, self.side))
            seen = torch.cat([x, F.pixel_shuffle(patches, PATCH)], dim=1)
            x0: Tensor = self.detail(seen.contiguous(memory_format=torch.channels_last))
        return x0.float()
