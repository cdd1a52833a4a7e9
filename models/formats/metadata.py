"""What a file's header says of a model: `modelspec.*` and `ss_*` as other tools read them."""

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

from pydantic import ValidationError

from models.errors import ModelRefused
from models.formats.components import Components
from models.formats.lora_file import LoraLayers, most_common
from models.manifest import Manifest
from models.schedulers import SCHEDULERS

MANIFEST_KEY = "dogbooth.manifest"
"""Our own manifest, so that a model that comes back knows its prompts and breeds."""
MAX_MANIFEST = 2**20
MAX_VALUE = 2000
MAX_KEYS = 200

KOHYA_SETTINGS = {
    "batch_size": "ss_batch_size_per_device",
    "gradient_accumulation": "ss_gradient_accumulation_steps",
    "gradient_checkpointing": "ss_gradient_checkpointing",
    "learning_rate": "ss_learning_rate",
    "max_grad_norm": "ss_max_grad_norm",
    "min_snr_gamma": "ss_min_snr_gamma",
    "mixed_precision": "ss_mixed_precision",
    "optimizer": "ss_optimizer",
    "prior_loss_weight": "ss_prior_loss_weight",
    "schedule": "ss_lr_scheduler",
    "seed": "ss_seed",
    "steps": "ss_max_train_steps",
    "warmup": "ss_lr_warmup_steps",
}
"""Our settings of a run, and what kohya's sd-scripts call them."""
DESCRIBING = (
    "description",
    "class_prompt",
    "instance_prompts",
    "breeds",
    "tags",
    "default_steps",
    "default_guidance_scale",
    "default_scheduler",
    "created",
    "training",
)


def header(
    manifest: Manifest, components: Components, prediction: str, layers: LoraLayers | None = None
) -> dict[str, str]:
    """The metadata of one exported file; `layers` where it holds a LoRA.

    `prediction` is the scheduler's `prediction_type`. ModelSpec 1.0.0 and sd-scripts' names.
    """
    architecture = _architecture(components, prediction)
    size = manifest.resolution
    written = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": architecture + ("/lora" if layers else ""),
        "modelspec.implementation": "diffusers",
        "modelspec.title": manifest.name,
        "modelspec.description": manifest.description,
        "modelspec.date": manifest.created.isoformat(),
        "modelspec.resolution": f"{size}x{size}",
        "modelspec.prediction_type": "v" if prediction == "v_prediction" else "epsilon",
        "modelspec.trigger_phrase": "; ".join(manifest.instance_prompts),
        "modelspec.tags": ", ".join(manifest.tags),
        "ss_output_name": manifest.name,
        "ss_sd_model_name": manifest.base or manifest.name,
        "ss_base_model_version": {"stable-diffusion-v1": "sd_v1"}.get(architecture, architecture),
        "ss_v2": str(architecture.startswith("stable-diffusion-v2")),
        "ss_resolution": f"({size}, {size})",
        "ss_training_comment": manifest.description,
        "ss_tag_frequency": json.dumps(
            {manifest.name: dict.fromkeys(manifest.instance_prompts, 1)}
        ),
        MANIFEST_KEY: manifest.model_dump_json(),
    }
    config = manifest.training.get("config")
    settings = config if isinstance(config, dict) else {}
    for ours, theirs in KOHYA_SETTINGS.items():
        if settings.get(ours) is not None:
            written[theirs] = str(settings[ours])
    if layers:
        written |= _network(layers)
    return {key: value for key, value in written.items() if value}


def _network(layers: LoraLayers) -> dict[str, str]:
    every = [layer for part in layers.values() for layer in part.values()]
    convolutions = [layer for layer in every if layer.down.ndim == 4 and layer.down.shape[-1] > 1]
    arguments = {}
    if convolutions:
        arguments = {
            "conv_dim": str(most_common([layer.rank for layer in convolutions])),
            "conv_alpha": str(most_common([layer.alpha for layer in convolutions])),
        }
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(most_common([layer.rank for layer in every])),
        "ss_network_alpha": str(most_common([layer.alpha for layer in every])),
        "ss_network_args": json.dumps(arguments),
    }


def _architecture(components: Components, prediction: str) -> str:
    """ModelSpec's name for Stable Diffusion v1 and v2; a name of our own for other sizes."""
    config = components.unet.config
    if list(config.block_out_channels) == [320, 640, 1280, 1280]:
        if config.cross_attention_dim == 768:
            return "stable-diffusion-v1"
        if config.cross_attention_dim == 1024:
            v_prediction = prediction == "v_prediction"
            return f"stable-diffusion-v2-{'768-v' if v_prediction else '512'}"
    return "latent-diffusion-dogbooth"


def described(metadata: Mapping[str, str], label: str) -> dict[str, Any]:
    """The manifest's fields that a file's header tells; {} where it tells nothing.

    Raises ModelRefused where the header holds a manifest of ours that is none.
    """
    if MANIFEST_KEY in metadata:
        return manifest_fields(metadata[MANIFEST_KEY].encode(), f"{label}: {MANIFEST_KEY}")
    told = {
        key: value[:MAX_VALUE]
        for key, value in metadata.items()
        if key.startswith(("modelspec.", "ss_")) and key != "modelspec.thumbnail"
    }
    told = dict(islice(told.items(), MAX_KEYS))
    fields: dict[str, Any] = {"training": {"metadata": told}} if told else {}
    if told.get("modelspec.description"):
        fields["description"] = told["modelspec.description"]
    if told.get("modelspec.trigger_phrase"):
        fields["instance_prompts"] = [told["modelspec.trigger_phrase"]]
    return fields


def manifest_fields(text: bytes, label: str) -> dict[str, Any]:
    """What a foreign manifest says of its model, without name, kind and base."""
    if len(text) > MAX_MANIFEST:
        raise ModelRefused(f"{label}: has more than {MAX_MANIFEST // 2**20} MiB")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        detail = error.errors()[0]
        field = ".".join(map(str, detail["loc"]))
        raise ModelRefused(f"{label}: {field}: {detail['msg']}") from error
    if not 1 <= manifest.default_steps <= 150:
        raise ModelRefused(f"{label}: default_steps {manifest.default_steps}: must be 1 to 150")
    if not 0 <= manifest.default_guidance_scale <= 30:
        value = manifest.default_guidance_scale
        raise ModelRefused(f"{label}: default_guidance_scale {value}: must be 0 to 30")
    if manifest.default_scheduler not in SCHEDULERS:
        name = manifest.default_scheduler[:80]
        raise ModelRefused(f"{label}: default_scheduler {name!r}: one of {', '.join(SCHEDULERS)}")
    return manifest.model_dump(include=set(DESCRIBING))
