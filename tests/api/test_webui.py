"""The real `webuiapi` package against the service on a socket."""

import base64
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from webuiapi import WebUIApi
from webuiapi.webuiapi import ControlNetUnit

from models.catalog import Catalog
from models.engine import LocalEngine
from models.requests import Step
from tests.api.pictures import file_of
from tests.api.scripted import ScriptedEngine
from tests.api.waiting import in_background, wait_until
from tests.tiny import add_upscaler

PROMPT = "a photo of a beagle dog"
SMALL = {"width": 32, "height": 32, "steps": 2}


def connect(address: str) -> WebUIApi:
    """A client with the defaults that the package has: `Euler a`, schedule `automatic`."""
    return WebUIApi(baseurl=f"{address}/sdapi/v1")


@pytest.fixture(scope="module")
def webui(live: str) -> WebUIApi:
    return connect(live)


def test_txt2img_gives_pictures_and_what_they_were_made_with(webui: WebUIApi) -> None:
    result = webui.txt2img(
        prompt=PROMPT,
        negative_prompt="blurry",
        seed=7,
        sampler_name="DPM++ 2M",
        scheduler="Karras",
        steps=3,
        cfg_scale=2.5,
        width=48,
        height=32,
        batch_size=2,
        n_iter=2,
        styles=["none"],
        enable_hr=False,
        controlnet_units=[ControlNetUnit()],
    )
    assert [image.size for image in result.images] == [(48, 32)] * 4
    assert result.info["all_seeds"] == [7, 8, 9, 10]
    assert result.info["sampler_name"] == "DPM++ 2M Karras"
    assert (result.info["cfg_scale"], result.info["steps"]) == (2.5, 3)
    assert result.info["sd_model_name"] == "tiny"
    for image, text in zip(result.images, result.info["infotexts"], strict=True):
        assert image.text["parameters"] == text
    assert result.parameters["prompt"] == PROMPT


def test_img2img_starts_from_the_picture(webui: WebUIApi) -> None:
    red = Image.new("RGB", (64, 64), "red")
    result = webui.img2img(
        images=[red], prompt=PROMPT, denoising_strength=0.5, **(SMALL | {"steps": 8})
    )
    assert result.image.size == (32, 32)
    assert "Denoising strength: 0.5" in result.image.text["parameters"]
    assert "init_images" not in result.parameters


def test_hires_makes_larger_pictures(address: str, catalog: Catalog) -> None:
    add_upscaler(catalog)
    asked = {"prompt": PROMPT, "width": 32, "height": 32, "enable_hr": True}
    [image] = connect(address).txt2img(**asked, hr_scale=2).images
    assert image.size == (64, 64)
    refused = httpx.post(f"{address}/sdapi/v1/txt2img", json={**asked, "hr_scale": 1.5})
    assert (refused.status_code, "hr_scale 1.5" in refused.text) == (422, True)


def test_what_a_client_leaves_out_is_the_models_own(live: str) -> None:
    answer = httpx.post(f"{live}/sdapi/v1/txt2img", json={"prompt": PROMPT, "tiling": True}).json()
    info = json.loads(answer["info"])
    assert (info["width"], info["steps"], info["cfg_scale"]) == (32, 2, 4.0)
    assert info["sampler_name"] == "DDIM"
    assert base64.b64decode(answer["images"][0], validate=True).startswith(b"\x89PNG")


def test_pictures_need_not_be_sent(webui: WebUIApi) -> None:
    result = webui.txt2img(prompt=PROMPT, send_images=False, **SMALL)
    assert result.images == []
    assert result.info["seed"] >= 0


def test_a_lora_tag_draws_with_the_adapter(webui: WebUIApi) -> None:
    result = webui.txt2img(prompt=f"<lora:rex:1> {PROMPT}", seed=1, **SMALL)
    plain = webui.txt2img(prompt=PROMPT, seed=1, **SMALL)
    assert (result.info["sd_model_name"], result.info["prompt"]) == ("rex", PROMPT)
    assert result.image.tobytes() != plain.image.tobytes()


def test_the_checkpoint_is_chosen_for_one_request_or_for_all(address: str) -> None:
    webui = connect(address)
    once = webui.txt2img(
        prompt=PROMPT, override_settings={"sd_model_checkpoint": "rex", "CLIP_stop": 1}, **SMALL
    )
    assert once.info["sd_model_name"] == "rex"
    assert webui.util_get_current_model() == "tiny"
    webui.util_set_model("Rex")
    assert webui.util_get_current_model() == "rex"
    assert webui.txt2img(prompt=PROMPT, **SMALL).info["sd_model_name"] == "rex"
    assert httpx.post(f"{address}/generate", json={"prompt": PROMPT}).json()["model"] == "tiny"


def test_samplers_models_and_loras_are_listed_by_the_names_that_requests_take(
    webui: WebUIApi,
) -> None:
    assert webui.util_get_model_names() == ["rex", "tiny"]
    assert [lora["name"] for lora in webui.get_loras()] == ["rex"]
    assert webui.util_get_scheduler_names() == ["automatic", "karras"]
    samplers = {sampler["name"]: sampler["aliases"][0] for sampler in webui.get_samplers()}
    assert samplers["Euler a"] == "euler_ancestral"
    for label, alias in samplers.items():
        by_label = webui.txt2img(prompt=PROMPT, sampler_name=label, seed=3, **SMALL)
        by_alias = webui.txt2img(prompt=PROMPT, sampler_name=alias, seed=3, **SMALL)
        assert by_label.info["sampler_name"] == by_alias.info["sampler_name"] == label


def test_whatever_a_client_asks_at_its_start_has_an_answer(webui: WebUIApi) -> None:
    assert webui.get_scripts() == {"txt2img": [], "img2img": []}
    assert webui.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert webui.get_cmd_flags() == {}
    for ask in (
        webui.get_sd_vae,
        webui.get_upscalers,
        webui.get_latent_upscale_modes,
        webui.get_hypernetworks,
        webui.get_face_restorers,
        webui.get_realesrgan_models,
        webui.get_prompt_styles,
    ):
        assert ask() == []
    assert webui.refresh_checkpoints() == {}
    ram = webui.get_memory()["ram"]
    assert ram["total"] == ram["free"] + ram["used"]
    assert ram["used"] > 0
    webui.util_wait_for_ready()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_png_info_reads_what_is_inside_a_picture(live: str, file_format: str) -> None:
    asked = {"prompt": PROMPT, "negative_prompt": "blurry, dark", "seed": 5}
    accept = {"Accept": f"image/{file_format.lower()}"}
    file = httpx.post(f"{live}/generate", json=asked, headers=accept).content
    body = {"image": base64.b64encode(file).decode()}
    answer = httpx.post(f"{live}/sdapi/v1/png-info", json=body).json()
    assert answer["info"].startswith(f"{PROMPT}\nNegative prompt: blurry, dark\nSteps: 2, ")
    assert answer["items"] == {"parameters": answer["info"]}
    found = answer["parameters"]
    assert (found["Prompt"], found["Negative prompt"]) == (PROMPT, "blurry, dark")
    assert (found["Seed"], found["Sampler"], found["Size"]) == ("5", "DDIM", "32x32")


def test_png_info_of_the_package(webui: WebUIApi) -> None:
    drawn = webui.txt2img(prompt=PROMPT, seed=1, **SMALL)
    assert webui.png_info(drawn.image).info == drawn.info["infotexts"][0]
    assert webui.png_info(Image.new("RGB", (8, 8))).info == ""


def test_progress_follows_the_drawing_and_interrupt_ends_it(
    address: str, engine: LocalEngine
) -> None:
    webui = connect(address)
    assert webui.get_progress()["state"]["job_count"] == 0
    long = {"prompt": PROMPT, "width": 64, "height": 64, "steps": 150, "batch_size": 8}
    drawing = in_background(webui.txt2img, **long)
    watcher = connect(address)
    wait_until(lambda: watcher.get_progress()["current_image"])
    now = watcher.get_progress()
    assert 0 < now["progress"] < 1
    assert now["eta_relative"] > 0
    assert (now["state"]["job_count"], now["state"]["sampling_steps"]) == (1, 1200)
    preview = Image.open(io.BytesIO(base64.b64decode(now["current_image"])))
    assert preview.size == (64, 64)
    assert watcher.interrupt() == {}
    result = drawing.result(30)
    assert (result.images, result.info["interrupted"]) == ([], True)
    assert engine.describe().counters.ended["cancelled"] == 1
    assert watcher.get_progress()["progress"] == 0


def test_progress_counts_the_steps_of_all_pictures(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    call = in_background(scripted_client.post, "/sdapi/v1/txt2img", json={"prompt": PROMPT})
    scripted.emit(0, Step, step=3, steps=12)

    def progress() -> dict[str, Any]:
        return scripted_client.get("/sdapi/v1/progress").json()

    wait_until(lambda: progress()["progress"] == 0.25)
    assert progress()["state"]["sampling_step"] == 3
    scripted.finish(0)
    assert len(call.result(30).json()["images"]) == 1


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"steps": 0}, 422, "steps 0: Input should be greater than or equal to 1"),
        ({"sampler_name": "Magic"}, 422, "sampler_name 'Magic': one of DDIM, DDPM"),
        ({"scheduler": "beta"}, 422, "scheduler 'beta': one of automatic, karras"),
        ({"sampler_name": "Euler", "scheduler": "karras"}, 422, "scheduler 'karras': the sampler"),
        ({"width": 40}, 422, "width 40: the model 'tiny' draws multiples of 16 only"),
        ({"batch_size": 5, "n_iter": 5}, 422, "n 25: Input should be less than or equal to 16"),
        ({"prompt": "<lora:rex:0.5> dog"}, 422, "prompt: <lora:rex:0.5>: the only weight is 1"),
        ({"prompt": "<lora:a><lora:b>"}, 422, "prompt: 2 <lora:...> tags"),
        ({"prompt": "<lora:max:1> dog"}, 404, "no model is called 'max'; there are rex, tiny"),
        ({"prompt": "<lora:tiny:1> dog"}, 404, "no adapter is called 'tiny': it is a base"),
        ({"override_settings": {"sd_model_checkpoint": "sd15"}}, 404, "no model is called 'sd15'"),
    ],
)
def test_errors_come_as_the_webuis(
    live: str, fields: dict[str, Any], status: int, message: str
) -> None:
    answer = httpx.post(f"{live}/sdapi/v1/txt2img", json={"prompt": PROMPT} | fields)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "detail", "body", "errors"}
    assert answer.json()["detail"].startswith(message)


def test_pictures_from_elsewhere_and_masks_are_refused(live: str) -> None:
    picture = base64.b64encode(file_of(Image.new("RGB", (8, 8)))).decode()
    for fields, message in (
        ({"init_images": ["http://dogs/1.png"]}, "init_image 'http://dogs/1.png' is not fetched"),
        ({"init_images": ["no picture"]}, "init_image 'data:image/png;base64,no picture' is not"),
        ({"init_images": []}, "init_images []: List should have at least 1 item"),
        ({"init_images": [picture], "mask": picture}, "mask 'iVBOR"),
    ):
        body = {"prompt": PROMPT, **fields}
        answer = httpx.post(f"{live}/sdapi/v1/img2img", json=body)
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(message)
    answer = httpx.post(f"{live}/sdapi/v1/png-info", json={"image": "bm8="})
    assert answer.json()["detail"].startswith("image 'data:image/png;base64,bm8='")


def test_no_path_of_the_machine_is_told(live: str, shared_home: Path) -> None:
    for path in ("sd-models", "loras", "options", "memory", "cmd-flags"):
        assert str(shared_home) not in httpx.get(f"{live}/sdapi/v1/{path}").text
    assert urlsplit(live).hostname == "127.0.0.1"
