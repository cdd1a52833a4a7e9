"""Draws an evaluation's pictures through the engine that serves them, batched, by fixed seeds."""

from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor
from tqdm import tqdm

from models.catalog import Catalog
from models.engine import LocalEngine
from models.manifest import Manifest
from models.pipeline import load_pipeline
from models.requests import GenerationRequest, Limits
from training.pictures import normalise, pixels

MOST_PROMPTS = 1000
"""Requests that wait in the engine at once; all of a call's are submitted together."""
DECODE_BATCH = 16
TURNS = 7


class Drawer:
    """An engine of its own, closed at the end of the `with` block."""

    def __init__(self, catalog: Catalog, seeds: int, device: str = "auto") -> None:
        """Pictures are drawn by the seeds 0 to `seeds` - 1, at each model's default settings."""
        self._catalog = catalog
        self._seeds = tuple(range(seeds))
        limits = Limits(max_images=seeds, max_side=4096)
        self._engine = LocalEngine(catalog, device=device, queue_limit=MOST_PROMPTS, limits=limits)

    def __enter__(self) -> "Drawer":
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close(timeout=0)

    def draw(
        self,
        model: str,
        prompts: Sequence[str],
        label: str,
        seeds: int | None = None,
        upscale: int = 1,
    ) -> Tensor:
        """Bytes `[len(prompts), S, 3, H, W]` by the first `seeds` of the seeds, or by all.

        Raises what the engine raises: ModelNotFound, InvalidRequest, GenerationFailed.
        """
        chosen = self._seeds[:seeds]
        handles = [
            self._engine.submit(GenerationRequest(prompt, chosen, model, upscale=upscale))
            for prompt in prompts
        ]
        bar = tqdm(handles, desc=label, unit="prompt")
        return torch.stack(
            [pixels([made.image for made in handle.result().images]) for handle in bar]
        )

    def seconds(self, models: Sequence[str], prompt: str) -> dict[str, float]:
        """Seconds of one picture of `prompt` by each of `models`: medians of TURNS, in turns."""
        found: dict[str, list[float]] = {model: [] for model in models}
        for _ in range(1 + TURNS):  # the first one warms up
            for model in models:
                request = GenerationRequest(prompt, self._seeds[:1], model)
                found[model].append(self._engine.submit(request).result().images[0].seconds)
        return {model: median(times[1:]) for model, times in found.items()}

    def describe(self) -> dict[str, str]:
        """Device and dtype, for the record."""
        status = self._engine.describe()
        return {"device": status.device, "dtype": status.dtype}


@torch.no_grad()
def reconstruct(manifest: Manifest, catalog: Catalog, pictures: Tensor) -> Tensor:
    """Bytes `[N, 3, H, W]` through the model's autoencoder and back, in fp32 on the CPU."""
    source = manifest.base if manifest.kind == "adapter" and manifest.base else manifest.name
    vae = load_pipeline(source, catalog, torch.device("cpu"), torch.float32).vae
    parts = []
    for part in tqdm(pictures.split(DECODE_BATCH), desc="reconstructions", unit="batch"):
        decoded = vae.decode(vae.encode(normalise(part)).latent_dist.mean).sample
        parts.append(decoded.add(1).mul(127.5).round().clamp(0, 255).byte())
    return torch.cat(parts).contiguous()
