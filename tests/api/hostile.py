"""Uploads that must be refused, made here byte by byte: pickles, zip slips, bombs, lies."""

import gzip
import io
import json
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

Files = dict[str, bytes]


@dataclass(frozen=True)
class Upload:
    """One hostile upload and what it is."""

    what: str
    filename: str
    content: bytes


class Payload:
    """Unpickling it would leave a mark."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, ("/tmp/dogbooth-was-here", "w")


def pickles() -> Iterator[Upload]:
    """Whatever their names say."""
    tensors = {"model.diffusion_model.out.2.bias": torch.zeros(4)}
    modern, legacy, array, packed = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save(tensors, modern)
    torch.save(tensors, legacy, _use_new_zipfile_serialization=False)
    np.save(array, np.array([Payload()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Payload()))
    contents = {"torch": modern.getvalue(), "old torch": legacy.getvalue()}
    contents |= {"numpy": array.getvalue(), "zip of a pickle": packed.getvalue()}
    contents |= {f"protocol {n}": pickle.dumps(Payload(), protocol=n) for n in range(6)}
    contents["gzip"] = gzip.compress(pickle.dumps(Payload()))
    for what, content in contents.items():
        for name in ("rex.safetensors", "rex.ckpt", "rex.bin", "model.zip"):
            yield Upload(f"{what} as {name}", name, content)


def with_header(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file of any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def headers(good: Mapping[str, bytes]) -> Iterator[Upload]:
    """Cut files, and headers that lie; `good` are whole files by kind."""
    for kind, content in good.items():
        for size in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1):
            yield Upload(f"{kind} cut at {size}", f"{kind}.safetensors", content[:size])
        yield Upload(f"{kind} and more", f"{kind}.safetensors", content + b"\0" * 10)

    def one(**fields: object) -> dict[str, object]:
        return {"a.lora_A.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | fields}

    data = b"\0" * 8
    lies: dict[str, bytes] = {
        "no header": with_header(b"", data),
        "no tensors": with_header({}),
        "a list": with_header([1, 2], data),
        "null": with_header(None, data),
        "not JSON": with_header(b"{" * 20, data),
        "deep JSON": with_header(b'{"a":' * 20_000 + b"1" + b"}" * 20_000, data),
        "metadata of numbers": with_header({"__metadata__": {"a": 3}} | one(), data),
        "overlap": with_header(one() | {"b": one()["a.lora_A.weight"]}, data),
        "gap": with_header(one(data_offsets=[8, 16]), data * 2),
        "beyond": with_header(one(data_offsets=[0, 2**40]), data),
        "backwards": with_header(one(data_offsets=[8, 0]), data),
        "not UTF-8": with_header(b'{"\xff": 1}', data),
        "odd name": with_header({"../../etc/passwd": one()["a.lora_A.weight"]}, data),
    }
    for length in (2**63 - 1, 2**63, 2**64 - 1, 2**40, 10**8):
        lies[f"header of {length}"] = with_header(one(), data, length)
    for shape in ([2**62], [2**32, 2**32, 2**32], [10**9, 10**9], [-2], [2.5], ["2"], None, 2):
        lies[f"shape {shape}"] = with_header(one(shape=shape), data)
    for dtype in ("F99", "I64", "U8", "BOOL", 3):
        lies[f"dtype {dtype}"] = with_header(one(dtype=dtype), data)
    for what, content in lies.items():
        yield Upload(what, "rex.safetensors", content)


def architectures(good: Mapping[str, bytes]) -> Iterator[Upload]:
    """Whole safetensors of weights that do not fit; `good` by `checkpoint`, `lora`, `kohya`."""
    checkpoint = load(good["checkpoint"])
    for number, key in enumerate(sorted(checkpoint)[::17]):
        less = {name: value for name, value in checkpoint.items() if name != key}
        yield Upload(f"without {key}", f"{number}.safetensors", save(less))
        shape = checkpoint[key].shape
        wide = checkpoint | {key: torch.zeros(shape[0] + 1, *shape[1:])}
        yield Upload(f"wide {key}", f"{number}.safetensors", save(wide))
    for prefix in ("model.diffusion_model.", "first_stage_model.", "cond_stage_model."):
        kept = {name: value for name, value in checkpoint.items() if not name.startswith(prefix)}
        yield Upload(f"no {prefix}", "rex.safetensors", save(kept))
        part = {name: value for name, value in checkpoint.items() if name.startswith(prefix)}
        yield Upload(f"only {prefix}", "rex.safetensors", save(part))
    extra = checkpoint | {"model.diffusion_model.input_blocks.9.0.in_layers.0.bias": torch.zeros(4)}
    yield Upload("one level more", "rex.safetensors", save(extra))
    for key in ("conditioner.embedders.0.x", "double_blocks.0.img_attn.qkv.weight", "weight"):
        yield Upload(f"another family: {key}", "x.safetensors", save({key: torch.zeros(2, 2)}))

    lora, kohya = load(good["lora"]), load(good["kohya"])
    for number, key in enumerate(sorted(lora)[:6]):
        less = {name: value for name, value in lora.items() if name != key}
        yield Upload(f"LoRA without {key}", f"{number}.safetensors", save(less))
        wide = torch.zeros(2, 99) if "lora_A" in key else torch.zeros(99, 2)
        yield Upload(f"LoRA wide {key}", f"{number}.safetensors", save(lora | {key: wide}))
    down = next(key for key in sorted(lora) if "lora_A" in key)
    up = down.replace("lora_A", "lora_B")
    none = {down: torch.zeros(0, lora[down].shape[1]), up: torch.zeros(lora[up].shape[0], 0)}
    yield Upload("LoRA of rank 0", "x.safetensors", save(lora | none))
    for what, tensor in (("scalar", torch.zeros(())), ("4-d", torch.zeros(2, 16, 1, 1))):
        yield Upload(f"LoRA {what}", "x.safetensors", save(lora | {down: tensor}))
    for old, new in (("unet.", "vae."), ("unet.", "text_encoder_2."), ("to_q", "to_magic")):
        renamed = {key.replace(old, new): value for key, value in lora.items()}
        yield Upload(f"LoRA for {new}", "x.safetensors", save(renamed))
    dora = down.replace("lora_A.weight", "lora_magnitude_vector")
    yield Upload("DoRA", "x.safetensors", save(lora | {dora: torch.zeros(16)}))
    old = {"text_encoder.x.lora.down.weight": torch.zeros(2, 2)}
    yield Upload("mixed names", "x.safetensors", save(lora | old))
    huge = '{"unet.lora_alpha": 1' + "0" * 400 + "}"
    for packed in (
        huge,
        '{"unet.lora_alpha": NaN}',
        "[",
        "[1]",
        '{"unet.lora_alpha": "x"}',
        '{"unet.lora_alpha": [1]}',
        "[" * 9999,
    ):
        content = save(lora, {"lora_adapter_metadata": packed})
        yield Upload(f"LoRA metadata {packed[:30]}", "x.safetensors", content)
    for told in ("{}", '{"name": "x"}', '{"default_steps": 0}', "x"):
        content = save(lora, {"dogbooth.manifest": told})
        yield Upload(f"manifest {told}", "x.safetensors", content)
    first = next(key for key in sorted(kohya) if key.endswith("lora_down.weight"))
    layer = first.removesuffix(".lora_down.weight")
    changes = {
        "NaN alpha": {f"{layer}.alpha": torch.tensor(float("nan"))},
        "infinite alpha": {f"{layer}.alpha": torch.tensor(float("inf"))},
        "many alphas": {f"{layer}.alpha": torch.zeros(3)},
        "LoHa": {f"{layer}.hada_w1_a": torch.zeros(2, 2)},
        "LoKr": {f"{layer}.lokr_w1": torch.zeros(2, 2)},
        "LoCon mid": {f"{layer}.lora_mid.weight": torch.zeros(2, 2, 1, 1)},
        "kohya DoRA": {f"{layer}.dora_scale": torch.zeros(16, 1)},
        "no such layer": {"lora_unet_nowhere.lora_down.weight": torch.zeros(2, 2)},
        "SDXL's encoder": {"lora_te2_text_model_x.lora_down.weight": torch.zeros(2, 2)},
    }
    for what, change in changes.items():
        yield Upload(what, "x.safetensors", save(kohya | change))
    for ending in (".lora_up.weight", ".lora_down.weight"):
        less = {key: value for key, value in kohya.items() if key != layer + ending}
        yield Upload(f"kohya without {ending}", "x.safetensors", save(less))
    yield Upload("only alphas", "x.safetensors", save({f"{layer}.alpha": torch.zeros(())}))


def zipped(files: Mapping[str, bytes], top: str = "rex/") -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return written.getvalue()


def archives(pipeline: Files) -> Iterator[Upload]:
    """Zips whose paths, entries or sizes are the trouble; `pipeline` is a good folder's files."""

    def add(*infos: zipfile.ZipInfo, content: bytes = b"x") -> bytes:
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as archive:
            for name, data in pipeline.items():
                archive.writestr(f"rex/{name}", data)
            for info in infos:
                archive.writestr(info, content)
        return written.getvalue()

    slips = ["../evil", "../../evil", "rex/../../evil", "/tmp/evil", "//evil", "rex/../evil"]
    slips += ["..\\evil", "rex\\..\\..\\evil", "C:\\evil", "C:/evil", "rex/unet/../../../evil"]
    slips += ["other/evil", "evil", "rex/unet/evil.json", "rex/.bashrc", "rex/unet/", "rex"]
    for name in slips:
        if name == "rex/unet/":
            name = "../evil/"
        yield Upload(f"slip {name}", "rex.zip", add(zipfile.ZipInfo(name)))
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK):
        for name in ("rex/vae/config.json", "rex/unet", "rex/preview.png"):
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (kind | 0o777) << 16
            yield Upload(f"{kind:o} {name}", "rex.zip", add(info, content=b"/etc/passwd"))
    for name in ("evil.py", "unet/model.py", "unet/diffusion_pytorch_model.bin", "x.pkl", "x.so"):
        yield Upload(f"holds {name}", "rex.zip", zipped(pipeline | {name: b"import os"}))
    for name in ("model.ckpt", "tokenizer/tokenization_evil.py", "unet/x.safetensors"):
        yield Upload(f"holds {name}", "rex.zip", zipped(pipeline | {name: b"x"}))
    yield Upload("many files", "rex.zip", zipped({f"{n}.json": b"{}" for n in range(101)}))
    yield Upload("zip in a zip", "rex.zip", zipped({"rex.zip": zipped(pipeline)}))
    yield Upload("no index", "rex.zip", zipped({"README.md": b"x"}))
    two = pipeline | {"again/model_index.json": pipeline["model_index.json"]}
    yield Upload("two indices", "rex.zip", zipped(two))
    bomb = b"\0" * 30_000_000
    yield Upload("bomb", "rex.zip", zipped(pipeline | {"unet/config.json": bomb}))
    weights = "unet/diffusion_pytorch_model.safetensors"
    yield Upload("bomb of weights", "rex.zip", zipped(pipeline | {weights: bomb}))
    yield Upload("bomb beside", "rex.zip", zipped(pipeline | {"vae/x.safetensors": bomb}))
    whole = zipped(pipeline)
    for size in (10, len(whole) // 3, len(whole) - 10):
        yield Upload(f"zip cut at {size}", "rex.zip", whole[:size])
    broken = bytearray(whole)
    middle = len(whole) // 2
    broken[middle : middle + 50] = bytes(50)
    yield Upload("a damaged entry", "rex.zip", bytes(broken))
    for kind in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        info = zipfile.ZipInfo("rex/README.md")
        info.compress_type = kind
        yield Upload(f"compression {kind}", "rex.zip", add(info))
    many = zipped({f"{number:0200}": b"" for number in range(6000)})
    yield Upload("a large directory", "rex.zip", many)
    yield Upload("encrypted", "rex.zip", _patched(whole, 8, struct.pack("<H", 1)))
    yield Upload("says less than it holds", "rex.zip", _patched(whole, 24, struct.pack("<I", 5)))


def _patched(archive: bytes, offset: int, value: bytes) -> bytes:
    """The zip with a field of its first central directory entry overwritten."""
    at = archive.index(b"PK\x01\x02") + offset
    return archive[:at] + value + archive[at + len(value) :]


def pipelines(pipeline: Files) -> Iterator[Upload]:
    """Zips of diffusers folders whose files say what cannot be."""
    for name in pipeline:
        if name == "manifest.json":
            continue
        less = {other: content for other, content in pipeline.items() if other != name}
        yield Upload(f"without {name}", "rex.zip", zipped(less))
        for what, content in (("text", b"dog"), ("a list", b"[]"), ("nothing", b"")):
            yield Upload(f"{name} is {what}", "rex.zip", zipped(pipeline | {name: content}))
        if name.endswith(".safetensors"):
            for pickled in (pickle.dumps(Payload()), pickle.dumps(Payload(), 0)):
                yield Upload(f"{name} pickled", "rex.zip", zipped(pipeline | {name: pickled}))
            half = pipeline[name][: len(pipeline[name]) // 2]
            yield Upload(f"{name} cut", "rex.zip", zipped(pipeline | {name: half}))
            odd = save({"weight": torch.zeros(2, 2)})
            yield Upload(f"{name} of others", "rex.zip", zipped(pipeline | {name: odd}))
    deep = b'{"a":' * 9999 + b"1" + b"}" * 9999
    changes: list[tuple[str, dict[str, object]]] = [
        ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}),
        ("model_index.json", {"_class_name": "../evil.py"}),
        ("model_index.json", {"_class_name": ["StableDiffusionPipeline"]}),
        ("model_index.json", {"unet": ["evil", "UNet2DConditionModel"]}),
        ("model_index.json", {"unet": ["diffusers", "UNet3DConditionModel"]}),
        ("model_index.json", {"vae": ["os", "system"]}),
        ("model_index.json", {"text_encoder": [None, None]}),
        ("unet/config.json", {"_class_name": "UNet3DConditionModel"}),
        ("unet/config.json", {"block_out_channels": [10**15, 10**15]}),
        ("unet/config.json", {"block_out_channels": [8] * 1000}),
        ("unet/config.json", {"block_out_channels": [8]}),
        ("unet/config.json", {"block_out_channels": "8, 16"}),
        ("unet/config.json", {"block_out_channels": [9, 17]}),
        ("unet/config.json", {"block_out_channels": [16, 16]}),
        ("unet/config.json", {"layers_per_block": 10**9}),
        ("unet/config.json", {"layers_per_block": 2}),
        ("unet/config.json", {"transformer_layers_per_block": 10**6}),
        ("unet/config.json", {"norm_num_groups": 0}),
        ("unet/config.json", {"norm_num_groups": -1}),
        ("unet/config.json", {"attention_head_dim": 0}),
        ("unet/config.json", {"in_channels": 9}),
        ("unet/config.json", {"out_channels": 8}),
        ("unet/config.json", {"cross_attention_dim": 32}),
        ("unet/config.json", {"cross_attention_dim": 2**60}),
        ("unet/config.json", {"sample_size": 10**6}),
        ("unet/config.json", {"sample_size": None}),
        ("unet/config.json", {"sample_size": 3}),
        ("unet/config.json", {"down_block_types": ["os.system"] * 2}),
        ("unet/config.json", {"mid_block_type": "__import__"}),
        ("unet/config.json", {"addition_embed_type": "text_time"}),
        ("unet/config.json", {"class_embed_type": "timestep"}),
        ("unet/config.json", {"act_fn": "evil"}),
        ("vae/config.json", {"scaling_factor": 0}),
        ("vae/config.json", {"scaling_factor": "1"}),
        ("vae/config.json", {"latent_channels": 16}),
        ("vae/config.json", {"layers_per_block": 10**7}),
        ("vae/config.json", {"block_out_channels": [8, 8]}),
        ("vae/config.json", {"up_block_types": ["UpDecoderBlock2D"] * 4000}),
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}),
        ("text_encoder/config.json", {"model_type": "llama"}),
        ("text_encoder/config.json", {"num_hidden_layers": 10**9}),
        ("text_encoder/config.json", {"vocab_size": 10**12}),
        ("text_encoder/config.json", {"vocab_size": 100}),
        ("text_encoder/config.json", {"hidden_size": 17}),
        ("text_encoder/config.json", {"hidden_act": "evil"}),
        ("text_encoder/config.json", {"num_attention_heads": 0}),
        ("text_encoder/config.json", {"max_position_embeddings": 8}),
        ("scheduler/scheduler_config.json", {"_class_name": "os.system"}),
        ("scheduler/scheduler_config.json", {"_class_name": None}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}),
        ("scheduler/scheduler_config.json", {"beta_schedule": "evil"}),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 10**30}),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 77}),
        ("manifest.json", {"default_steps": 0}),
        ("manifest.json", {"default_scheduler": "evil"}),
        ("manifest.json", {"default_guidance_scale": 1e9}),
        ("manifest.json", {"kind": "evil"}),
        ("manifest.json", {"evil": 1}),
    ]
    for name, change in changes:
        content = json.dumps(json.loads(pipeline[name]) | change).encode()
        yield Upload(f"{name} {str(change)[:60]}", "rex.zip", zipped(pipeline | {name: content}))
    for name in ("model_index.json", "unet/config.json", "tokenizer/tokenizer.json"):
        yield Upload(f"{name} is deep", "rex.zip", zipped(pipeline | {name: deep}))
        less = json.loads(pipeline[name]) | {"unet": json.loads("[" * 500 + "]" * 500)}
        content = json.dumps(less).encode()
        yield Upload(f"{name} is half as deep", "rex.zip", zipped(pipeline | {name: content}))
