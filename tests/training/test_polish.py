from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.conftest import draw_dog
from tests.training.test_autoencoder import TINY, save_and_stop
from training.autoencoder import build_autoencoder, encode_means
from training.pictures import pixels
from training.polish import Adversary, PolishConfig, hinge, polish

SHORT = PolishConfig(steps=4, crop=64, batch_size=2, adversarial_from=1, checkpoint_every=2)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return pixels([draw_dog(seed).resize((72, 72)) for seed in range(6)])


def test_the_decoder_learns_and_no_latent_moves(pictures: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = build_autoencoder(TINY, 72)
    latents, decoder = encode_means(vae, pictures), vae.decoder.conv_in.weight.clone()
    polished = polish(vae, pictures, pictures[..., :64, :64], SHORT, 0, tmp_path)
    torch.testing.assert_close(encode_means(polished, pictures), latents)
    assert not torch.equal(polished.decoder.conv_in.weight, decoder)
    assert (tmp_path / "samples" / "polish-000004.png").exists()


def test_a_stopped_polish_goes_on_as_if_never_stopped(
    pictures: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh() -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        return build_autoencoder(TINY, 72), pictures, pictures[..., :64, :64]

    whole = polish(*fresh(), SHORT, 0, tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr("training.checkpoints.save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            polish(*fresh(), SHORT, 0, tmp_path / "b")
    resumed = polish(*fresh(), SHORT, 0, tmp_path / "b")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_hinge_is_zero_where_the_adversary_is_sure() -> None:
    real, fake = [torch.full((2, 1, 3, 3), 1.5)], [torch.full((2, 1, 3, 3), -2.0)]
    assert hinge(real, fake) == 0
    assert hinge(fake, real) == pytest.approx(3 + 2.5)


def test_an_adversary_scores_every_place_of_every_layer() -> None:
    layers = [torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)]
    shapes = [score.shape for score in Adversary(layers)(layers)]
    assert shapes == [(2, 1, 8, 8), (2, 1, 4, 4)]
