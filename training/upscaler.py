"""A decoder with one more stage: it makes pictures of twice the side from the latents of a base.

`python -m training upscaler --config training/recipes/upscaler.toml`
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from models.catalog import Catalog
from models.manifest import MANIFEST_FILE, UPSCALER_FOLDER
from training.autoencoder import warm_cosine
from training.config import ConfigError, check_least, check_share, plain
from training.pass_through import pass_blocks
from training.pictures import draw_crops
from training.polish import PolishConfig, encoder_of, polish
from training.pretrain import centre_crops, load_photos
from training.versions import library_versions

SHRINK = 2
"""What one more stage makes of width and height."""


@dataclass(frozen=True)
class UpscalerConfig:
    """What `python -m training upscaler` reads from its TOML file."""

    base: str = "dogbooth-base"
    """A catalog name."""
    dataset: Path = Path("artifacts/data/stanford_dogs_288")
    """A folder that `python -m data prepare` wrote, of pictures larger than twice the base's."""
    work: Path = Path("artifacts/upscaler")
    """Checkpoints, curves and samples."""
    seed: int = 0
    exclude_breeds: tuple[str, ...] = ()
    held_out: float = 0.06
    """Share of the photos that nothing is trained on."""
    sharpest: float = 0.5
    """Share of the training photos that the decoder learns from, those with the most detail:
    enlarged ones would teach it to blur."""
    encoder_steps: int = 300
    """Steps for the first stage of the encoder, which has to find the base's own latents."""
    polish: PolishConfig = field(default_factory=PolishConfig)
    """The decoder's training; `crop` is of the large pictures."""

    def __post_init__(self) -> None:
        check_share(self, "held_out")
        check_least(self, {"encoder_steps": 1})
        if not 0 < self.sharpest <= 1:
            raise ConfigError(f"sharpest: {self.sharpest} is not above 0 and at most 1")
        if self.polish.steps < 1:
            raise ConfigError(f"polish.steps: {self.polish.steps} is below 1")


def train_upscaler(config: UpscalerConfig, catalog: Catalog) -> Path:
    """Train the decoder for `config.base` and publish the base with it; return its folder.

    A killed run is gone on from in `config.work`. The base's weights stay as they are. Raises
    ConfigError or ModelsError.
    """
    entry = catalog.get(config.base)
    if entry.manifest.kind == "adapter":
        raise ConfigError(f"base: {config.base!r} is an adapter, whose base has the decoder")
    vae = AutoencoderKL.from_pretrained(entry.folder / "vae", use_safetensors=True)
    photos = load_photos(
        dataset=config.dataset,
        resolution=SHRINK * entry.manifest.resolution,
        exclude_breeds=config.exclude_breeds,
        held_out=config.held_out,
        seed=config.seed,
    )
    seen = photos.pictures[photos.training]
    unseen = centre_crops(photos.pictures[photos.held_out], SHRINK * entry.manifest.resolution)
    torch.manual_seed(config.seed)
    upscaler = with_another_stage(vae)
    sharp = sharpest(seen, config.sharpest)
    polish(upscaler, seen[sharp], unseen, config.polish, config.seed, config.work, vae)
    fit_encoder(upscaler, vae, seen, config)

    record = {
        "config": plain(config),
        "data_fingerprint": photos.fingerprint,
        "photos": {"training": len(sharp), "held_out": len(unseen)},
        "versions": library_versions(),
    }
    manifest = entry.manifest.model_copy(
        update={"training": entry.manifest.training | {"upscaler": record}}
    )
    with catalog.publish(manifest, replace=True) as folder:
        left = shutil.ignore_patterns(MANIFEST_FILE, UPSCALER_FOLDER)
        shutil.copytree(entry.folder, folder, ignore=left, dirs_exist_ok=True)
        upscaler.half().save_pretrained(folder / UPSCALER_FOLDER, safe_serialization=True)
    return catalog.get(config.base).folder


def sharpest(pictures: Tensor, share: float) -> Tensor:
    """Numbers of the `share` of bytes `[N, 3, S, S]` that lose most when shrunk by two."""
    lost = []
    for part in pictures.split(256):
        grey = part.float().mean(dim=1, keepdim=True)
        size = grey.shape[-2:]
        enlarged = F.interpolate(F.avg_pool2d(grey, SHRINK), size=size, mode="bicubic")
        lost.append((grey - enlarged).abs().mean(dim=(1, 2, 3)))
    order = torch.cat(lost).argsort(descending=True, stable=True)
    return order[: max(1, round(share * len(order)))].sort().values


def fit_encoder(
    upscaler: AutoencoderKL, vae: AutoencoderKL, pictures: Tensor, config: UpscalerConfig
) -> None:
    """Have the first stage of `upscaler`'s encoder give of large pictures the latents that `vae`
    has of the shrunk ones (mean squared error)."""
    upscaler.requires_grad_(False)
    stage = nn.ModuleList([upscaler.encoder.conv_in, upscaler.encoder.down_blocks[0]])
    parameters = list(stage.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_cosine(config.encoder_steps))
    generator = torch.Generator().manual_seed(config.seed)
    encode = encoder_of(upscaler, vae)
    bar = tqdm(range(config.encoder_steps), desc="encoder", unit="step")
    for _ in bar:
        batch = draw_crops(pictures, config.polish.batch_size, config.polish.crop, generator)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted = encode(batch).mean
            loss = F.mse_loss(upscaler.encode(batch).latent_dist.mean.float(), wanted.float())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.4f}")


@torch.no_grad()
def with_another_stage(vae: AutoencoderKL) -> AutoencoderKL:
    """An autoencoder whose decoder starts as `vae`'s over pictures of twice the side.

    Its latents are meant to be those of `vae` of the pictures shrunk by two. The new stage is as
    wide as the one before it; its residual branches start at zero and its enlarging as repetition.
    """
    config = {key: value for key, value in vae.config.items() if key != "_name_or_path"}
    channels = config["block_out_channels"]
    larger = AutoencoderKL.from_config(
        config,
        block_out_channels=(channels[0], *channels),
        down_block_types=("DownEncoderBlock2D",) * (len(channels) + 1),
        up_block_types=("UpDecoderBlock2D",) * (len(channels) + 1),
        sample_size=SHRINK * config["sample_size"],
    )
    state = {
        key: value
        for key, value in vae.state_dict().items()
        if key.startswith(("decoder.", "quant_conv.", "post_quant_conv."))
    }
    larger.load_state_dict(state, strict=False)
    for old, new in zip(vae.encoder.down_blocks, larger.encoder.down_blocks[1:], strict=True):
        new.load_state_dict(old.state_dict())
    for name in ("mid_block", "conv_norm_out", "conv_out"):
        getattr(larger.encoder, name).load_state_dict(getattr(vae.encoder, name).state_dict())
    added = [larger.encoder.down_blocks[0], larger.decoder.up_blocks[-1]]
    for block in (*added, larger.decoder.up_blocks[-2].upsamplers):
        pass_blocks(block)
    larger.encoder.conv_in.load_state_dict(vae.encoder.conv_in.state_dict())
    return larger
