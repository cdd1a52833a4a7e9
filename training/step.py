"""One training step's gradients, and the loss on the fixed validation batch."""

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from torch import Tensor

from training.dreambooth_config import DreamBoothConfig
from training.material import Batch
from training.objective import dreambooth_loss, min_snr_weights, target_of, weighted_errors
from training.weights import Weights


@dataclass(frozen=True)
class Texts:
    """The prompts of a run, by row."""

    rows: dict[str, int]
    token_ids: Tensor
    """`[T, window]`."""
    embeddings: Tensor
    """`[T, window, D]`, of the base's own text encoder."""

    def of(self, weights: Weights, rows: Tensor) -> Tensor:
        """Embeddings of these rows, of the trained text encoder where it is trained."""
        if weights.text_encoder is None:
            return self.embeddings[rows]
        embeddings: Tensor = weights.text_encoder(self.token_ids[rows])[0]
        return embeddings


@dataclass(frozen=True)
class Step:
    """What a step needs besides its batch."""

    config: DreamBoothConfig
    accelerator: Accelerator
    weights: Weights
    scheduler: DDPMScheduler
    texts: Texts

    def gradients(self, batch: Batch, micro_batch: int) -> Tensor:
        """Add the gradients of `batch`, `micro_batch` rows at a time; the loss.

        Of several processes each computes its share of the rows, and all end with the mean.
        """
        processes = self.accelerator.num_processes
        if processes > 1:
            batch = batch.share(self.accelerator.process_index, processes)
        config, loss = self.config, torch.zeros((), device=self.accelerator.device)
        for part in batch.parts(micro_batch):
            part = part.to(self.accelerator.device)
            with self.accelerator.autocast():
                embeddings = self.texts.of(self.weights, part.texts)
                noisy = self.scheduler.add_noise(part.latents, part.noise, part.timesteps)
                target = target_of(self.scheduler, part.latents, part.noise, part.timesteps)
                if config.asks_base:
                    target = self._with_base_prediction(part, noisy, target)
                predicted = self.weights.unet(noisy, part.timesteps, embeddings).sample
                weights = min_snr_weights(self.scheduler, part.timesteps, config.snr_gamma)
                errors = weighted_errors(predicted, target, weights)
                part_loss = dreambooth_loss(
                    errors, part.instance_rows, batch.instance_rows, config.prior_loss_weight
                )
            self.accelerator.backward(part_loss)
            loss += part_loss.detach()
        if self.accelerator.num_processes > 1:
            for parameter in self.weights.parameters:
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
        mean: Tensor = self.accelerator.reduce(loss, "mean")
        return mean

    @torch.no_grad()
    def validation_loss(self, batch: Batch, size: int = 8) -> float:
        """Mean squared error, unweighted, on a batch that never changes."""
        total = 0.0
        for part in batch.parts(size):
            part = part.to(self.accelerator.device)
            with self.accelerator.autocast():
                noisy = self.scheduler.add_noise(part.latents, part.noise, part.timesteps)
                embeddings = self.texts.of(self.weights, part.texts)
                predicted = self.weights.unet(noisy, part.timesteps, embeddings).sample
            target = target_of(self.scheduler, part.latents, part.noise, part.timesteps)
            ones = torch.ones(len(target), device=target.device)
            total += weighted_errors(predicted, target, ones).sum().item()
        return total / len(batch.latents)

    @torch.no_grad()
    def _with_base_prediction(self, part: Batch, noisy: Tensor, target: Tensor) -> Tensor:
        """`target` with the frozen base's prediction in the rows of the class."""
        rows = slice(part.instance_rows, None)
        with self.weights.base_unet() as unet:
            embeddings = self.texts.embeddings[part.texts[rows]]
            base = unet(noisy[rows], part.timesteps[rows], embeddings).sample
        return torch.cat([target[: part.instance_rows], base.float()])
