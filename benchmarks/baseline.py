"""What one writes first: FastAPI, a diffusers pipeline, a lock. The other side of `make bench`."""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from fastapi import FastAPI, Response
from pydantic import BaseModel

BASE = Path(os.environ["BASELINE_MODEL"])
ADAPTERS = sorted(Path(os.environ["BASELINE_ADAPTERS"]).glob("*/pytorch_lora_weights.safetensors"))
NAMES = {file.parent.name for file in ADAPTERS}

torch.set_num_threads(int(os.environ["BASELINE_THREADS"]))
pipeline = StableDiffusionPipeline.from_pretrained(
    BASE, dtype=getattr(torch, os.environ["BASELINE_DTYPE"]), use_safetensors=True
)
pipeline.unet.to(memory_format=torch.channels_last)
pipeline.vae.to(memory_format=torch.channels_last)
pipeline.set_progress_bar_config(disable=True)
for file in ADAPTERS:
    pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=file.parent.name)
if ADAPTERS:
    pipeline.disable_lora()
lock = threading.Lock()
app = FastAPI()


class Body(BaseModel):
    """The part of our own request that the benchmarks use."""

    prompt: str
    model: str
    steps: int = 25
    guidance_scale: float = 4.0
    seed: int = 0


@contextmanager
def model(name: str) -> Iterator[None]:
    """Switch the pipeline to an adapter, as PEFT's documentation shows it."""
    if name in NAMES:
        pipeline.enable_lora()
        pipeline.set_adapters(name)
    elif NAMES:
        pipeline.disable_lora()
    yield


@app.get("/healthz")
async def healthz() -> str:
    """Answers at once."""
    return "ok"


@app.post("/generate")
def generate(body: Body) -> Response:
    """One picture at a time, as PNG."""
    with lock, model(body.model), torch.inference_mode():
        image = pipeline(
            body.prompt,
            num_inference_steps=body.steps,
            guidance_scale=body.guidance_scale,
            generator=torch.Generator().manual_seed(body.seed),
        ).images[0]
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Response(buffer.getvalue(), media_type="image/png")
