"""One side of the Stable Diffusion v1.5 benchmark, in a process of its own for its peak memory.

`python -m benchmarks.sd15 make FOLDER THREADS` writes the architecture with random weights;
`ours` and `baseline` then print seconds a step and GiB, `matmul` what bf16 can give at most.
"""

import math
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

STEPS = 3
NAME = "sd15-random"


def make(folder: Path) -> None:
    """The architecture of Stable Diffusion v1.5, fp16, as a model of a catalog in `folder`."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from models.catalog import Catalog, embedded_folder
    from models.manifest import Manifest

    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    tokenizer = CLIPTokenizer.from_pretrained(embedded_folder() / "dogbooth-base" / "tokenizer")
    tokenizer.model_max_length = 77
    pipeline = StableDiffusionPipeline(
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        vae=AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            sample_size=512,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_attention_heads=12,
                projection_dim=768,
            )
        ),
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    manifest = Manifest(name=NAME, kind="base", resolution=512, created=datetime.now(UTC))
    with Catalog([folder]).publish(manifest) as target:
        pipeline.save_pretrained(target)


def ours(folder: Path, threads: int) -> float:
    """Seconds a step of the engine."""
    from models.catalog import Catalog
    from models.engine import LocalEngine
    from models.requests import GenerationRequest, Step

    engine = LocalEngine(Catalog([folder]), threads=threads)
    request = GenerationRequest("a dog", (0,), NAME, steps=STEPS + 1, guidance_scale=7.5)
    times = []
    for event in engine.submit(request).events():
        if isinstance(event, Step):
            times.append(time.perf_counter())
    engine.close()
    return (times[-1] - times[0]) / STEPS


def baseline(folder: Path, threads: int) -> float:
    """Seconds a step of diffusers as its quick start shows it, which on a CPU is fp32."""
    from diffusers import StableDiffusionPipeline

    torch.set_num_threads(threads)
    pipeline = StableDiffusionPipeline.from_pretrained(folder / NAME)
    pipeline.to(torch.float32)  # transformers reads the stored fp16 otherwise
    times = []

    def after_step(pipe: object, step: int, timestep: int, tensors: dict) -> dict:
        times.append(time.perf_counter())
        return tensors

    pipeline(
        "a dog",
        num_inference_steps=STEPS + 1,
        guidance_scale=7.5,
        callback_on_step_end=after_step,
    )
    return (times[-1] - times[0]) / STEPS


def matmul_ratio(threads: int, size: int = 2048) -> float:
    """How much faster this machine multiplies matrices in bf16 than in fp32, best of ten each."""
    torch.set_num_threads(threads)
    fastest = {torch.float32: math.inf, torch.bfloat16: math.inf}
    for _ in range(10):
        for dtype in fastest:
            matrix = torch.ones(size, size, dtype=dtype)
            started = time.perf_counter()
            matrix @ matrix
            fastest[dtype] = min(fastest[dtype], time.perf_counter() - started)
    return fastest[torch.float32] / fastest[torch.bfloat16]


if __name__ == "__main__":
    side, root, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if side == "make":
        make(root)
    elif side == "matmul":
        print(matmul_ratio(count))
    else:
        seconds_per_step = {"ours": ours, "baseline": baseline}[side](root, count)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{seconds_per_step:.3f} {peak:.2f}")
