"""A base with a LoRA that is to learn from it, as teacher and as student."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from models.catalog import Catalog
from models.pipeline import choose_device, load_pipeline
from training.adapters import add_unet_adapter
from training.attention import choose_attention
from training.captioning import tokenise
from training.distill_config import DistillConfig
from training.preparation import check_base, choose_precision
from training.weights import DTYPES


@dataclass(frozen=True)
class Student:
    """A base with its LoRA, and what both are told."""

    pipeline: StableDiffusionPipeline
    embeddings: Tensor
    """`[T + 1, window, D]`: a prompt a row, the last one empty."""
    accelerator: Accelerator
    parameters: list[nn.Parameter]
    """The LoRA's."""

    def predict(self, latents: Tensor, timesteps: Tensor, texts: Tensor) -> Tensor:
        """What the U-Net predicts of latents `[B, C, h, w]`, in fp32."""
        with self.accelerator.autocast():
            found = self.pipeline.unet(latents, timesteps, self.embeddings[texts]).sample
        predicted: Tensor = found.float()
        return predicted

    def velocity(self, latents: Tensor, timesteps: Tensor, texts: Tensor) -> Tensor:
        """The velocity that the prediction means."""
        predicted = self.predict(latents, timesteps, texts)
        if self.predicts_velocity:
            return predicted
        signal, noise = self._shares(timesteps)
        return (predicted - noise * latents) / signal

    def target(self, velocity: Tensor, latents: Tensor, timesteps: Tensor) -> Tensor:
        """The prediction that means `velocity`: itself, or noise = sin(a) x + cos(a) v."""
        if self.predicts_velocity:
            return velocity
        signal, noise = self._shares(timesteps)
        return noise * latents + signal * velocity

    def teacher(
        self, guidance_scale: float, latents: Tensor, timesteps: Tensor, texts: Tensor
    ) -> Tensor:
        """The base's velocity with guidance (Ho and Salimans 2022, arXiv 2207.12598, eq. 6)."""
        unet, nothing = self.pipeline.unet, torch.full_like(texts, len(self.embeddings) - 1)
        unet.disable_adapters()
        both = self.velocity(
            latents.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([nothing, texts])
        )
        unet.enable_adapters()
        unconditional, conditional = both.chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the base's own latents."""
        config = self.pipeline.unet.config
        size = config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return config.in_channels, height, width

    @property
    def predicts_velocity(self) -> bool:
        """Whether the U-Net predicts the velocity, and not the noise."""
        kind: str = self.pipeline.scheduler.config.prediction_type
        return kind == "v_prediction"

    def _shares(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        signal = self.pipeline.scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
        return signal.sqrt()[:, None, None, None], (1 - signal).sqrt()[:, None, None, None]


@torch.no_grad()
def prepare(config: DistillConfig, catalog: Catalog, prompts: Sequence[str]) -> Student:
    """Load the base, encode all `prompts`, add the LoRA."""
    device = choose_device(config.device)
    precision = choose_precision("auto", device)
    accelerator = Accelerator(mixed_precision=precision, cpu=device.type == "cpu")
    set_seed(config.seed)
    pipeline = load_pipeline(config.base, catalog, device, DTYPES[precision])
    check_base(pipeline)
    for model in (pipeline.vae, pipeline.text_encoder):
        model.requires_grad_(False)
    encoded = [
        pipeline.text_encoder(ids.to(device))[0]
        for ids in tokenise(pipeline.tokenizer, [*prompts, ""]).split(256)
    ]
    choose_attention(pipeline.unet, device)
    add_unet_adapter(pipeline.unet, config.rank, config.rank, config.lora_targets)
    parameters = [p for p in pipeline.unet.parameters() if p.requires_grad]
    return Student(pipeline, torch.cat(encoded), accelerator, parameters)
