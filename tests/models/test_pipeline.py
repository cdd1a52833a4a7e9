from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.catalog import Catalog
from models.errors import InvalidModel, ModelNotFound
from models.manifest import ADAPTER_FILE, PIPELINE_FILE
from models.pipeline import choose_device, choose_dtype, load_pipeline
from tests.tiny import publish_adapter, tiny_manifest

CPU = torch.device("cpu")


def load(source: str, catalog: Catalog, dtype: torch.dtype = torch.float32):
    return load_pipeline(source, catalog, CPU, dtype)


def test_auto_takes_an_accelerator_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    if torch.backends.mps.is_available():
        expected = "mps"
    assert choose_device().type == expected
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"bf16": True}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
    ],
)
def test_a_cpu_uses_bf16_only_where_it_computes_it(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    assert choose_dtype(CPU) == dtype


def test_accelerators_use_fp16() -> None:
    assert choose_dtype(torch.device("cuda")) == torch.float16
    assert choose_dtype(torch.device("mps")) == torch.float16


def test_a_dtype_that_is_not_one_is_named() -> None:
    assert choose_dtype(CPU, "fp32") == torch.float32
    with pytest.raises(ValueError, match="dtype 'int8': one of auto, fp32, fp16, bf16"):
        choose_dtype(CPU, "int8")


def test_a_base_loads_in_the_asked_dtype_channels_last(catalog: Catalog) -> None:
    pipeline = load("tiny", catalog, torch.bfloat16)
    assert pipeline.unet.dtype == pipeline.vae.dtype == torch.bfloat16
    assert pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert pipeline.safety_checker is None


def test_an_adapter_loads_as_its_base_with_the_adapter_active(catalog: Catalog) -> None:
    latents, text = torch.ones(1, 4, 4, 4), torch.ones(1, 32, 16)
    with torch.no_grad():
        base, rex = (load(name, catalog).unet(latents, 5, text).sample for name in ("tiny", "rex"))
    assert not torch.allclose(base, rex, atol=1e-3)


def test_a_folder_outside_the_catalog_loads(
    catalog: Catalog, tiny_pipeline_folder: Callable[..., Path]
) -> None:
    assert load(str(tiny_pipeline_folder()), catalog).unet.config.sample_size == 4


def test_an_unknown_name_lists_what_exists(catalog: Catalog) -> None:
    with pytest.raises(ModelNotFound, match="'max'; there are rex, tiny"):
        load("max", catalog)


def test_a_hub_id_without_network_is_a_clear_error(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InvalidModel, match="not on this machine"):
        load("someone/no-such-model", catalog)


def test_pickled_weights_are_never_read(
    catalog: Catalog, tmp_path: Path, tiny_pipeline_folder: Callable[..., Path]
) -> None:
    folder = tiny_pipeline_folder()
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InvalidModel, match=r"^tiny: "):
        load(str(folder), catalog)
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(InvalidModel, match=r"only .safetensors"):
        load(str(tmp_path / "model.ckpt"), catalog)


def test_damaged_weights_are_an_invalid_model_without_paths(
    catalog: Catalog, tmp_path: Path
) -> None:
    (catalog.get("rex").folder / ADAPTER_FILE).write_bytes(b"not safetensors")
    (catalog.get("tiny").folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"no")
    for name in ("tiny", "rex"):
        with pytest.raises(InvalidModel) as caught:
            load(name, catalog)
        assert str(tmp_path) not in str(caught.value)


def test_a_single_file_that_is_no_checkpoint_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(InvalidModel, match=r"^odd.safetensors: "):
        load(str(tmp_path / "odd.safetensors"), catalog)


def test_other_pipeline_classes_are_refused(catalog: Catalog) -> None:
    index = catalog.get("tiny").folder / PIPELINE_FILE
    index.write_text('{"_class_name": "OddPipeline"}')
    with pytest.raises(InvalidModel, match="'OddPipeline' is not supported"):
        load("tiny", catalog)


def test_an_adapter_needs_a_base_that_is_there_and_whole(catalog: Catalog) -> None:
    publish_adapter(catalog, "lost", base="gone")
    with pytest.raises(InvalidModel, match="lost: its base is missing: no model is called 'gone'"):
        load("lost", catalog)
    publish_adapter(catalog, "twice", base="rex")
    with pytest.raises(InvalidModel, match="twice: its base is itself an adapter"):
        load("twice", catalog)


def test_an_adapter_that_fits_nothing_is_refused(catalog: Catalog) -> None:
    with catalog.publish(tiny_manifest("odd", kind="adapter", base="tiny")) as folder:
        save_file({"other.lora_A.weight": torch.zeros(2, 2)}, folder / ADAPTER_FILE)
    with pytest.raises(InvalidModel, match=r"^odd: "):
        load("odd", catalog)
