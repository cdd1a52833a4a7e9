import os
import signal
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file

from models.catalog import Catalog
from models.engine import LocalEngine
from models.manifest import ADAPTER_FILE
from models.requests import GenerationRequest
from models.schedulers import make_scheduler
from tests.tiny import publish_base, tiny_pipeline
from training.__main__ import main
from training.config import ConfigError, build, read_toml
from training.distill import batch_loss, caption_groups, distill, missed
from training.distill_config import DistillConfig
from training.errors import Stopped
from training.student import prepare
from training.trajectories import Trajectories, draw_trajectories, noise_levels

SHORT = DistillConfig(
    name="few",
    base="tiny",
    points=2,
    teacher_steps=2,
    trajectories=6,
    held_out=2,
    rank=2,
    steps=3,
    batch_size=2,
    learning_rate=1e-2,
    warmup=0,
    checkpoint_every=2,
    device="cpu",
)


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon"])
def test_a_step_by_the_solved_target_lands_where_it_should(kind: str, catalog: Catalog) -> None:
    """With diffusers' own scheduler, at each of its steps."""
    student = prepare(SHORT, catalog, ["a dog"])
    student.pipeline.scheduler.register_to_config(prediction_type=kind)
    scheduler = make_scheduler("ddim_trailing", student.pipeline.scheduler.config)
    scheduler.set_timesteps(5)
    levels = noise_levels(scheduler, 5, torch.device("cpu"))
    assert torch.equal(levels.timesteps, scheduler.timesteps)
    latents, landed = torch.randn(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    index = torch.arange(5)
    velocity = levels.velocity_between(latents, landed, index)
    torch.testing.assert_close(levels.step(latents, velocity, index), landed)
    target = student.target(velocity, latents, levels.timesteps)
    for row, timestep in enumerate(scheduler.timesteps):
        found = scheduler.step(target[row][None], timestep, latents[row][None]).prev_sample
        torch.testing.assert_close(found[0], landed[row], atol=1e-4, rtol=1e-4)


def test_the_teacher_goes_where_diffusers_goes_with_guidance(
    catalog: Catalog, tmp_path: Path
) -> None:
    student = prepare(SHORT, catalog, ["a dog"])
    scheduler = make_scheduler("ddim_trailing", student.pipeline.scheduler.config)
    levels = noise_levels(scheduler, 4, torch.device("cpu"))
    drawn = draw_trajectories(
        lambda *state: student.teacher(3.0, *state), levels, 2, (4, 4, 4), [[0]], 1, 0, tmp_path
    )
    pipeline = tiny_pipeline()
    pipeline.scheduler = make_scheduler("ddim_trailing", pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        "a dog",
        latents=drawn.states[:, 0],
        num_inference_steps=4,
        guidance_scale=3.0,
        output_type="latent",
    ).images
    assert drawn.states.shape == (1, 3, 4, 4, 4)
    torch.testing.assert_close(drawn.states[:, -1], expected, atol=0.05, rtol=0.05)


def test_what_was_drawn_is_not_drawn_again(tmp_path: Path) -> None:
    levels = noise_levels(DDIMScheduler(), 4, torch.device("cpu"))
    calls: list[int] = []

    def velocity(latents: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        calls.append(len(latents))
        return 0.5 * latents

    arguments = (velocity, levels, 2, (1, 2, 2), [[0, 1], [2]], 70, 0)
    first = draw_trajectories(*arguments, tmp_path / "a")
    assert calls == [64] * 4 + [6] * 4
    copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "0001.pt").unlink()
    second = draw_trajectories(*arguments, tmp_path / "b")
    assert calls == [64] * 4 + [6] * 8
    assert torch.equal(first.states, second.states) and torch.equal(first.texts, second.texts)
    assert set(first.texts.tolist()) == {0, 1, 2}


def test_the_loss_falls_and_the_student_comes_nearer(catalog: Catalog) -> None:
    """A teacher that only turns every latent: what a U-Net learns in a few steps."""
    student = prepare(SHORT, catalog, ["a dog"])
    points = noise_levels(student.pipeline.scheduler, 2, torch.device("cpu"))
    states = torch.randn(16, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    trajectories = Trajectories(
        torch.cat([states, 0.9 * states, 0.5 * states], dim=1), torch.zeros(16, dtype=torch.long)
    )
    optimizer = torch.optim.AdamW(student.parameters, lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    before, losses = missed(student, trajectories, points), []
    for _ in range(60):
        loss = batch_loss(student, trajectories, points, 16, generator)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert missed(student, trajectories, points) < before


def test_a_run_publishes_what_is_served_without_guidance_beside_the_base(
    catalog: Catalog, tmp_path: Path
) -> None:
    folder = distill(SHORT, catalog, tmp_path / "work")
    manifest = catalog.get("few").manifest
    assert (manifest.kind, manifest.base, manifest.resolution) == ("adapter", "tiny", 32)
    assert (manifest.default_steps, manifest.default_guidance_scale) == (2, 1.0)
    assert manifest.default_scheduler == "ddim_trailing"
    assert manifest.breeds == catalog.get("tiny").manifest.breeds
    assert manifest.training["config"]["seed"] == 0
    assert (folder / "preview.png").exists() and (folder / "preview_before.png").exists()
    assert not list((tmp_path / "work" / "runs" / "few").glob("*.pt"))
    engine = LocalEngine(catalog, "cpu", "fp32", threads=1)
    try:
        both = [engine.submit(GenerationRequest("a dog", (3,), name)) for name in ("few", "tiny")]
        few, tiny = (handle.result(60).images[0].image for handle in both)
    finally:
        engine.close()
    assert few.size == tiny.size == (32, 32)
    assert few.tobytes() != tiny.tobytes()


def test_a_stopped_run_goes_on_to_the_same_weights(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distill(SHORT, catalog, tmp_path / "work")
    forward, calls = UNet2DConditionModel.forward, []

    def forward_and_stop(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 6:  # four of the teacher, then the second step
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(*arguments, **options)  # type: ignore[arg-type]

    again = replace(SHORT, name="again")
    with monkeypatch.context() as patch:
        patch.setattr(UNet2DConditionModel, "forward", forward_and_stop)
        with pytest.raises(Stopped) as stopped:
            distill(again, catalog, tmp_path / "work")
    assert stopped.value.step == 2
    resumed = distill(again, catalog, tmp_path / "work")
    one, other = load_file(whole / ADAPTER_FILE), load_file(resumed / ADAPTER_FILE)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_base_is_told_what_it_was_taught_in_both_languages(catalog: Catalog) -> None:
    groups = caption_groups(SHORT, catalog)
    assert [group[0] for group in groups] == [
        "a photo of a beagle",
        "a photo of a golden retriever",
        "a photo of a dog",
    ]
    assert {"un perro beagle", "a photo of a beagle on the grass"} < set(groups[0])
    assert len(set(groups[0])) == len(groups[0])
    own = replace(SHORT, prompts=("a cat", "a hat"))
    assert caption_groups(own, catalog) == [["a cat", "a hat"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "rex"}, "'rex' is published already"),
        ({"base": "rex"}, "base: 'rex' is itself an adapter"),
        ({"base": "plain"}, "prompts: needed, as the base 'plain' names no breed of dogs"),
        ({"points": 3}, "6 steps do not divide the base's 1000 noise levels"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_publishes_nothing(
    catalog: Catalog, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    publish_base(catalog, "plain")
    before = [entry.manifest.name for entry in catalog.entries()]
    with pytest.raises(ConfigError, match=message):
        distill(replace(SHORT, **change), catalog, tmp_path / "work")  # type: ignore[arg-type]
    assert [entry.manifest.name for entry in catalog.entries()] == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held_out": 6}, "held_out: 6 leaves none of 6 trajectories"),
        ({"guidance_scale": 0.5}, "guidance_scale: 0.5 is below 1"),
        ({"rank": 0}, "rank: 0 is below 1"),
        ({"ema_decay": 1.0}, "ema_decay: 1.0 is not between 0 and 1"),
    ],
)
def test_a_setting_out_of_its_range_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SHORT, **change)  # type: ignore[arg-type]


def test_the_command_reads_the_recipe_and_the_options_over_it(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copytree(tiny_models, tmp_path / "models")
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    recipe = Path("training/recipes/few_steps.toml").resolve()
    assert build(DistillConfig, read_toml(recipe)).name == "dogbooth-few-steps"
    line = ["distill", "--config", str(recipe), "--base", "tiny", "--device", "cpu", "--rank", "2"]
    line += ["--name", "few"]
    line += ["--trajectories", "4", "--held-out", "1", "--steps", "2", "--batch-size", "2"]
    assert main(line) == 0
    manifest = Catalog([tmp_path / "models"]).get("few").manifest
    assert manifest.base == "tiny" and manifest.training["config"]["rank"] == 2


def test_the_command_says_what_is_missing_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    assert main(["distill", "--base", "tiny"]) == 2
    assert capsys.readouterr().err == "error: name: needed; give --name or set it in --config\n"
