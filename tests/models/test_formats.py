"""Models go out in four formats and come back as they were: the picture is the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from models.catalog import Catalog, embedded_folder
from models.errors import ModelExists, ModelRefused
from models.formats import Format
from models.formats.components import Components, build
from models.formats.exporting import export_model
from models.formats.importing import import_model
from models.formats.metadata import header
from models.manifest import ADAPTER_FILE, Manifest
from models.pipeline import load_pipeline
from tests.models.shapes import draw, draw_with, largest_difference, publish_shaped, shaped_pipeline
from tests.tiny import add_upscaler, tiny_manifest

UNET = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
UNET += ["conv1", "conv2", "conv_shortcut"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
TRAINING = {"config": {"learning_rate": 0.001, "steps": 280, "seed": 3, "batch_size": 16}}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog([tmp_path / "models"])


def publish_lora(catalog: Catalog, name: str, base: str, shape: str, **fields: object) -> None:
    """An adapter as the trainer writes it, on U-Net and text encoder, alpha unlike the rank."""
    torch.manual_seed(2)
    pipeline = shaped_pipeline(shape)
    layers, metadata = {}, {}
    for part, targets in (("unet", UNET), ("text_encoder", TEXT)):
        component = getattr(pipeline, part)
        component.add_adapter(
            LoraConfig(r=3, lora_alpha=2, target_modules=targets, init_lora_weights=False)
        )
        layers[part] = get_peft_model_state_dict(component)
        metadata[part] = component.peft_config["default"].to_dict()
    manifest = catalog.get(base).manifest
    with catalog.publish(
        tiny_manifest(name, kind="adapter", base=base, resolution=manifest.resolution, **fields)
    ) as folder:
        StableDiffusionPipeline.save_lora_weights(
            folder,
            unet_lora_layers=layers["unet"],
            text_encoder_lora_layers=layers["text_encoder"],
            unet_lora_adapter_metadata=metadata["unet"],
            text_encoder_lora_adapter_metadata=metadata["text_encoder"],
        )


@pytest.mark.parametrize("shape", ["tiny", "v1", "v2"])
def test_a_checkpoint_comes_back_and_plain_diffusers_reads_it(
    catalog: Catalog, tmp_path: Path, shape: str
) -> None:
    publish_shaped(catalog, "base", shape)
    publish_shaped(catalog, "rex", shape, seed=7, kind="checkpoint", base="base")
    before = draw(catalog, "rex")
    assert largest_difference(before, draw(catalog, "base")) > 10
    path = tmp_path / "rex.safetensors"
    export_model("rex", "checkpoint", path, catalog)
    import_model(path, "back", catalog, base="base")
    assert largest_difference(before, draw(catalog, "back")) <= 1
    plain = StableDiffusionPipeline.from_single_file(
        str(path), config=str(catalog.get("base").folder), local_files_only=True
    )
    assert largest_difference(before, draw_with(plain)) <= 1


def test_the_layout_is_stable_diffusions_own(catalog: Catalog, tmp_path: Path) -> None:
    publish_shaped(catalog, "base", "v1")
    path = tmp_path / "base.safetensors"
    export_model("base", "checkpoint", path, catalog)
    shapes = {key: tuple(value.shape) for key, value in load_file(path).items()}
    unet = {key for key in shapes if key.startswith("model.diffusion_model.")}
    vae = {key for key in shapes if key.startswith("first_stage_model.")}
    text = {key for key in shapes if key.startswith("cond_stage_model.transformer.text_model.")}
    assert (len(unet), len(vae)) == (686, 248), "as many as in Stable Diffusion v1.5"
    assert unet | vae | text == set(shapes)
    assert {
        "model.diffusion_model.time_embed.0.weight",
        "model.diffusion_model.input_blocks.3.0.op.weight",
        "model.diffusion_model.input_blocks.8.1.transformer_blocks.0.attn2.to_k.weight",
        "model.diffusion_model.input_blocks.11.0.emb_layers.1.weight",
        "model.diffusion_model.middle_block.1.proj_in.weight",
        "model.diffusion_model.output_blocks.2.1.conv.weight",
        "model.diffusion_model.output_blocks.5.2.conv.weight",
        "model.diffusion_model.output_blocks.11.1.proj_out.weight",
        "model.diffusion_model.out.2.weight",
        "first_stage_model.encoder.down.0.downsample.conv.weight",
        "first_stage_model.decoder.up.3.upsample.conv.weight",
        "first_stage_model.decoder.mid.attn_1.norm.weight",
        "first_stage_model.quant_conv.weight",
        "cond_stage_model.transformer.text_model.encoder.layers.1.self_attn.q_proj.weight",
    } <= set(shapes)
    assert shapes["first_stage_model.encoder.mid.attn_1.q.weight"] == (16, 16, 1, 1)


def test_a_version_2_text_encoder_is_written_as_open_clip(catalog: Catalog, tmp_path: Path) -> None:
    publish_shaped(catalog, "base", "v2")
    path = tmp_path / "base.safetensors"
    export_model("base", "checkpoint", path, catalog)
    shapes = {key: tuple(value.shape) for key, value in load_file(path).items()}
    layer = "cond_stage_model.model.transformer.resblocks.1."
    assert shapes[layer + "attn.in_proj_weight"] == (48, 16)
    assert "cond_stage_model.model.positional_embedding" in shapes


@pytest.mark.parametrize("shape", ["tiny", "v1"])
@pytest.mark.parametrize("form", ["lora", "kohya"])
def test_a_lora_comes_back_and_plain_diffusers_reads_it(
    catalog: Catalog, tmp_path: Path, form: Format, shape: str
) -> None:
    publish_shaped(catalog, "base", shape)
    publish_lora(catalog, "rex", "base", shape)
    before = draw(catalog, "rex")
    assert largest_difference(before, draw(catalog, "base")) > 10
    path = tmp_path / "rex.safetensors"
    export_model("rex", form, path, catalog)
    entry = import_model(path, "back", catalog)
    assert (entry.manifest.kind, entry.manifest.base) == ("adapter", "base")
    assert largest_difference(before, draw(catalog, "back")) <= 1
    plain = load_pipeline("base", catalog, torch.device("cpu"), torch.float32)
    plain.load_lora_weights(str(tmp_path), weight_name=path.name)
    assert largest_difference(before, draw_with(plain)) <= 1


def test_the_names_that_diffusers_gave_before_are_understood(
    catalog: Catalog, tmp_path: Path
) -> None:
    publish_shaped(catalog, "base", "tiny")
    publish_lora(catalog, "rex", "base", "tiny")
    state = {}
    for key, value in load_file(catalog.get("rex").folder / ADAPTER_FILE).items():
        if key.startswith("unet."):
            key = key.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up.")
        else:
            key = key.replace("text_encoder.", "text_encoder.text_model.", 1)
            key = key.replace(".lora_A.", ".lora_linear_layer.down.")
            key = key.replace(".lora_B.", ".lora_linear_layer.up.")
        value = value * (2 / 3) if ".up." in key else value  # alpha / r: such files have no alpha
        state[key] = value.contiguous()
    save_file(state, tmp_path / "old.safetensors")
    import_model(tmp_path / "old.safetensors", "back", catalog)
    assert largest_difference(draw(catalog, "rex"), draw(catalog, "back")) <= 1


def test_a_folder_comes_back(catalog: Catalog, tmp_path: Path) -> None:
    publish_shaped(catalog, "base", "v1", breeds=["pug"], description="One pug.")
    export_model("base", "diffusers", tmp_path / "out", catalog)
    manifest = import_model(tmp_path / "out", "back", catalog).manifest
    assert largest_difference(draw(catalog, "base"), draw(catalog, "back")) <= 1
    assert (manifest.kind, manifest.breeds, manifest.resolution) == ("base", ["pug"], 64)
    assert manifest.description == "One pug."


@pytest.mark.parametrize("form", ["checkpoint", "diffusers"])
def test_an_adapter_is_merged_into_a_whole_pipeline(
    catalog: Catalog, tmp_path: Path, form: Format
) -> None:
    publish_shaped(catalog, "base", "v1")
    publish_lora(catalog, "rex", "base", "v1")
    export_model("rex", form, tmp_path / "rex", catalog)
    import_model(tmp_path / "rex", "back", catalog, base="base")
    assert largest_difference(draw(catalog, "rex"), draw(catalog, "back")) <= 1


def test_a_merged_adapter_takes_its_bases_upscaler_along(catalog: Catalog, tmp_path: Path) -> None:
    publish_shaped(catalog, "tiny", "tiny")
    add_upscaler(catalog, "tiny")
    publish_lora(catalog, "fido", "tiny", "tiny")
    export_model("fido", "diffusers", tmp_path / "fido", catalog)
    assert (tmp_path / "fido" / "upscaler" / "diffusion_pytorch_model.safetensors").is_file()
    import_model(tmp_path / "fido", "back", catalog)  # which takes known parts only
    assert not (catalog.get("back").folder / "upscaler").exists()


@pytest.mark.parametrize("form", ["kohya", "lora"])
def test_the_header_tells_other_tools_what_it_is(
    catalog: Catalog, tmp_path: Path, form: Format
) -> None:
    publish_shaped(catalog, "base", "v1")
    prompts = ["a photo of rex dog"]
    publish_lora(
        catalog, "rex", "base", "v1", training=TRAINING, instance_prompts=prompts, breeds=["pug"]
    )
    path = tmp_path / "rex.safetensors"
    export_model("rex", form, path, catalog)
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
        keys = set(file.keys())
    assert told["modelspec.title"] == "rex"
    assert told["modelspec.architecture"].endswith("/lora")
    assert told["modelspec.prediction_type"] == "v"
    assert told["modelspec.trigger_phrase"] == "a photo of rex dog"
    assert told["modelspec.resolution"] == "64x64"
    assert told["ss_sd_model_name"] == "base"
    assert (told["ss_network_dim"], told["ss_network_alpha"]) == ("3", "2.0")
    assert told["ss_network_module"] == "networks.lora"
    assert json.loads(told["ss_network_args"]) == {"conv_dim": "3", "conv_alpha": "2.0"}
    assert (told["ss_learning_rate"], told["ss_max_train_steps"]) == ("0.001", "280")
    if form == "kohya":
        layer = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
        assert {f"{layer}.lora_down.weight", f"{layer}.lora_up.weight", f"{layer}.alpha"} <= keys
        assert "lora_unet_down_blocks_0_resnets_0_conv1.alpha" in keys
    back = import_model(path, "back", catalog).manifest
    assert (back.instance_prompts, back.breeds) == (prompts, ["pug"])
    assert back.training["config"] == TRAINING["config"]
    assert back.training["imported"]["format"] == form


def test_stable_diffusion_sizes_have_their_own_name_in_the_header() -> None:
    unet = {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768}
    text = {"model_type": "clip_text_model", "hidden_size": 768}
    components = Components(build("unet", unet), build("vae", {}), build("text_encoder", text))
    manifest = Manifest.model_validate(tiny_manifest("sd", resolution=512).model_dump())
    told = header(manifest, components, "epsilon")
    assert told["modelspec.architecture"] == "stable-diffusion-v1"
    assert (told["ss_base_model_version"], told["ss_v2"]) == ("sd_v1", "False")
    assert told["modelspec.prediction_type"] == "epsilon"


def test_a_foreign_header_is_kept_and_its_trigger_is_a_prompt(
    catalog: Catalog, tmp_path: Path
) -> None:
    publish_shaped(catalog, "base", "tiny")
    publish_lora(catalog, "rex", "base", "tiny")
    path = tmp_path / "x.bin"
    export_model("rex", "kohya", path, catalog)
    told = {"modelspec.trigger_phrase": "sks dog", "ss_steps": "10", "other": "x"}
    save_file(load_file(path), path, told)
    manifest = import_model(path, "back", catalog, fields={"tags": ["dog"]}).manifest
    assert (manifest.instance_prompts, manifest.tags) == (["sks dog"], ["dog"])
    assert manifest.training["metadata"] == {
        "modelspec.trigger_phrase": "sks dog",
        "ss_steps": "10",
    }


def test_older_names_of_weights_are_understood(catalog: Catalog, tmp_path: Path) -> None:
    """Stable Diffusion v1.5's own folder has the text encoder and the autoencoder named so."""
    publish_shaped(catalog, "base", "v1")
    folder = tmp_path / "old"
    export_model("base", "diffusers", folder, catalog)
    text = folder / "text_encoder" / "model.safetensors"
    state = {f"text_model.{key}": value for key, value in load_file(text).items()}
    positions = torch.arange(32)[None]
    save_file(state | {"text_model.embeddings.position_ids": positions}, text)
    vae = folder / "vae" / "diffusion_pytorch_model.safetensors"
    state = {}
    for key, value in load_file(vae).items():
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value")):
            key = key.replace(f".{new}.", f".{old}.")
        state[key.replace(".to_out.0.", ".proj_attn.")] = value
    save_file(state, vae)
    import_model(folder, "back", catalog)
    assert largest_difference(draw(catalog, "base"), draw(catalog, "back")) <= 1
    export_model("back", "checkpoint", tmp_path / "old.safetensors", catalog)
    import_model(tmp_path / "old.safetensors", "again", catalog, base="base")
    assert largest_difference(draw(catalog, "base"), draw(catalog, "again")) <= 1


def test_what_cannot_be_exported_says_why(catalog: Catalog, tmp_path: Path) -> None:
    publish_shaped(catalog, "base", "tiny")
    with pytest.raises(ModelRefused, match="base: is a whole model; .* extract-lora"):
        export_model("base", "kohya", tmp_path / "x", catalog)
    (tmp_path / "there").touch()
    with pytest.raises(ModelRefused, match="exists already"):
        export_model("base", "checkpoint", tmp_path / "there", catalog)
    publish_lora(catalog, "rex", "base", "tiny")
    (catalog.get("base").folder).rename(tmp_path / "moved")
    with pytest.raises(ModelRefused, match="rex: its base 'base' is not in the catalog"):
        export_model("rex", "lora", tmp_path / "x", catalog)
    assert not list(tmp_path.glob("*x*"))


def test_a_taken_name_is_refused_unless_it_is_to_be_replaced(
    catalog: Catalog, tmp_path: Path
) -> None:
    publish_shaped(catalog, "base", "tiny")
    export_model("base", "diffusers", tmp_path / "out", catalog)
    with pytest.raises(ModelExists, match="'base' already"):
        import_model(tmp_path / "out", "base", catalog)
    import_model(tmp_path / "out", "base", catalog, replace=True)


def test_two_bases_that_fit_must_be_told_apart(catalog: Catalog, tmp_path: Path) -> None:
    publish_shaped(catalog, "one", "tiny")
    publish_shaped(catalog, "two", "tiny", seed=1)
    publish_lora(catalog, "rex", "one", "tiny")
    export_model("rex", "lora", tmp_path / "rex", catalog)
    with pytest.raises(ModelRefused, match="rex: fits one, two; say which is its base"):
        import_model(tmp_path / "rex", "back", catalog)
    assert import_model(tmp_path / "rex", "back", catalog, base="two").manifest.base == "two"


def test_the_shipped_models_come_back_in_every_format(tmp_path: Path) -> None:
    catalog = Catalog([tmp_path / "models", embedded_folder()])
    base, breeds = draw(catalog, "dogbooth-base"), draw(catalog, "dogbooth-breeds")
    forms: dict[Format, np.ndarray] = {"checkpoint": base, "diffusers": base}
    for form, before in forms.items():
        export_model("dogbooth-base", form, tmp_path / form, catalog)
        import_model(tmp_path / form, f"back-{form}", catalog, base="dogbooth-base")
        assert largest_difference(before, draw(catalog, f"back-{form}")) <= 1
    for form in ("lora", "kohya"):
        export_model("dogbooth-breeds", form, tmp_path / form, catalog)
        import_model(tmp_path / form, f"back-{form}", catalog)
        assert largest_difference(breeds, draw(catalog, f"back-{form}")) <= 1
        said = (catalog.get(f"back-{form}").folder / ADAPTER_FILE).read_bytes()
        assert str(embedded_folder()).encode() not in said
