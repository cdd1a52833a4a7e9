"""The weights that a run trains: set up, saved, put back, compared with the base's."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from models.catalog import Catalog
from models.pipeline import load_pipeline
from training.adapters import (
    add_text_adapter,
    add_unet_adapter,
    load_adapter,
    low_rank_change,
    save_adapter,
)
from training.attention import choose_attention
from training.config import ConfigError
from training.dreambooth_config import DreamBoothConfig
from training.inversion import NewTokens

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "no": torch.float32}


def loading_dtype(config: DreamBoothConfig, precision: str) -> torch.dtype:
    """What the base is loaded in: fp32, or what it is computed in if it is not published again."""
    frozen = config.method == "lora" and not config.dora
    return DTYPES[precision] if frozen else torch.float32


class Weights:
    """The trained part of a pipeline, and the frozen base where the prior needs it."""

    def __init__(
        self,
        pipeline: StableDiffusionPipeline,
        config: DreamBoothConfig,
        precision: str,
        tokens: dict[str, int] | None = None,
    ) -> None:
        """Freeze what is not trained; what is trained stands in fp32 and is only computed lower.

        `tokens` are names and ids of what `method = "embedding"` trains.
        """
        self.unet: UNet2DConditionModel = pipeline.unet
        self.text_encoder: CLIPTextModel | None = None
        self._low_rank = config.method == "lora"
        self._frozen: UNet2DConditionModel | None = None
        self.tokens: NewTokens | None = None
        device = pipeline.unet.device
        choose_attention(self.unet, device)
        for model in (pipeline.vae, pipeline.text_encoder, self.unet):
            model.requires_grad_(False)
        if config.moves_text:
            self.text_encoder = pipeline.text_encoder.float()
            if device.type == "cpu":
                self.text_encoder.set_attn_implementation("eager")  # see training/attention.py
        if self._low_rank:
            alpha = config.rank if config.alpha is None else config.alpha
            add_unet_adapter(self.unet, config.rank, alpha, config.lora_targets, config.dora)
            if self.text_encoder is not None:
                add_text_adapter(self.text_encoder, config.rank, alpha, config.dora)
        elif tokens is not None:
            self.tokens = NewTokens(pipeline.text_encoder, list(tokens), list(tokens.values()))
        else:
            if config.asks_base:
                self._frozen = copy.deepcopy(self.unet).to(dtype=DTYPES[precision])
            for model in self.models:
                model.requires_grad_(True)
            if config.train_only:
                train_only(self.unet, config.train_only)
        if config.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
            if self.text_encoder is not None:
                self.text_encoder.gradient_checkpointing_enable()
        for model in self.models:
            model.train()
        self.parameters = [
            p for model in self.models for p in model.parameters() if p.requires_grad
        ]
        """Every trained parameter."""

    @property
    def models(self) -> list[nn.Module]:
        """The models with trained weights: the U-Net, and the text encoder where it is trained."""
        return [self.unet] if self.text_encoder is None else [self.unet, self.text_encoder]

    @contextmanager
    def base_unet(self) -> Iterator[UNet2DConditionModel]:
        """The U-Net as it was before training."""
        if not self._low_rank:
            yield self.unet if self._frozen is None else self._frozen
            return
        self.unet.disable_adapters()
        try:
            yield self.unet
        finally:
            self.unet.enable_adapters()

    def save(self, folder: Path) -> None:
        """Write the weights in fp32, as diffusers and transformers load them."""
        if self._low_rank:
            save_adapter(folder, self.unet, self.text_encoder, torch.float32)
            return
        if self.tokens is not None:
            self.tokens.save(folder)
            return
        self.unet.save_pretrained(folder / "unet")
        if self.text_encoder is not None:
            self.text_encoder.save_pretrained(folder / "text_encoder")

    def load(self, folder: Path) -> None:
        """Put back what `save` wrote."""
        if self._low_rank:
            load_adapter(folder, self.unet, self.text_encoder)
            return
        if self.tokens is not None:
            self.tokens.load(folder)
            return
        for name, model in (("unet", self.unet), ("text_encoder", self.text_encoder)):
            if model is not None:
                stored = type(model).from_pretrained(folder / name)
                model.load_state_dict(stored.state_dict())

    def change(self, config: DreamBoothConfig, catalog: Catalog) -> float:
        """The norm of what training added, over the norm of the weights that it was added to."""
        changed = beneath = 0.0
        if self.tokens is not None:
            changed, beneath = self.tokens.change()
        elif self._low_rank:
            for model in self.models:
                sums = low_rank_change(model)
                changed, beneath = changed + sums[0], beneath + sums[1]
        else:
            base = load_pipeline(config.base, catalog, torch.device("cpu"), torch.float32)
            befores = [base.unet, base.text_encoder][: len(self.models)]
            for model, before in zip(self.models, befores, strict=True):
                for now, then in zip(model.parameters(), before.parameters(), strict=True):
                    changed += (now.detach().cpu() - then).double().square().sum().item()
                    beneath += then.double().square().sum().item()
        return math.sqrt(changed / beneath)


def train_only(unet: nn.Module, parts: Sequence[str]) -> None:
    """Freeze all weights of `unet` but those with one of `parts` in their names.

    Raises ConfigError for a part that no name holds.
    """
    for part in parts:
        if not any(part in name for name, _ in unet.named_parameters()):
            raise ConfigError(f"train_only: {part!r} is in the name of no weight of the U-Net")
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))


class Parked:
    """A model whose weights lie on disk while it is not needed."""

    def __init__(self, model: nn.Module, path: Path) -> None:
        """Write the weights of `model` to `path` and free them."""
        self.model = model
        self._path = path
        self._device: torch.device = next(model.parameters()).device
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: p.detach().cpu().contiguous() for name, p in self._parameters()}, path)
        self._free()

    @contextmanager
    def back(self) -> Iterator[None]:
        """Within the block, `model` has its weights."""
        self.restore()
        try:
            yield
        finally:
            self._free()

    def restore(self) -> None:
        """Give `model` its weights back for good."""
        stored: dict[str, Tensor] = load_file(self._path)
        for name, parameter in self._parameters():
            parameter.data = stored[name].to(self._device)
        self.model.to(memory_format=torch.channels_last)

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.model.named_parameters())

    def _free(self) -> None:
        for _, parameter in self._parameters():
            parameter.data = parameter.data.new_empty(0)
