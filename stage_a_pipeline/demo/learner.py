"""The weights under training: model, read-out of the cells, optimiser, and one step of learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch.nn import functional

from stage_a_pipeline.demo.batches import IGNORED, Batch
from stage_a_pipeline.demo.forward import language_states, penalise_repetition, vision_features
from stage_a_pipeline.demo.supervision import channel_count

if TYPE_CHECKING:
    from stage_a_pipeline.demo.train import Optimisation

CELL_WEIGHT: Final = 5.0
"""Weight of the loss of reading the truth per cell from the vision features."""

ALIGNMENT_WEIGHT: Final = {"V": 4.0, "J": 1.0}
"""Weight of the distance between vision features and the truth's embedding, by kind of step."""

REPETITION_PENALTY: Final = 1.05
"""Half of the steps see their logits as the default generation settings will penalise them."""


class CellTruthCodec(torch.nn.Module):
    """Between the truth per cell and the space of the features that the language half reads.

    `read` recovers the truth from vision features; `embed` is a fixed random embedding of it, which
    stands in for vision features while the halves are trained apart.
    """

    codes: torch.Tensor
    ground: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = torch.nn.Linear(width, channel_count())
        torch.nn.init.constant_(self.read.bias, -3)
        generator = torch.Generator().manual_seed(7)
        self.register_buffer("codes", torch.randn(channel_count(), width, generator=generator) * 0.5)
        self.register_buffer("ground", torch.randn(width, generator=generator) * 0.5)

    def embed(self, truth: torch.Tensor) -> torch.Tensor:
        """Features [rows, cells, width] of a truth [rows, cells, channels]."""
        return truth @ self.codes + self.ground


class Learner:
    """A model under training on one device."""

    def __init__(self, model: Any, optimisation: Optimisation, device: str) -> None:
        self.model = model.to(device).train()
        self.model.set_attn_implementation("eager")
        self._codec = CellTruthCodec(model.config.text_config.hidden_size).to(device)
        self._device = device
        self._clip = optimisation.clip
        self._parameters = [*self.model.parameters(), *self._codec.parameters()]
        self._optimiser = torch.optim.AdamW(
            [
                {
                    "params": [weight for weight in self._parameters if weight.ndim > 1],
                    "weight_decay": optimisation.weight_decay,
                },
                {"params": [weight for weight in self._parameters if weight.ndim < 2], "weight_decay": 0.0},
            ],
            lr=optimisation.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )

    def learn(self, batch: Batch, *, rate: float, seed: int) -> dict[str, float]:
        """One step on a batch; the losses by name. The seed drives the noise of the step."""
        torch.manual_seed(seed)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(self._device.partition(":")[0], torch.bfloat16):
            losses = self._losses(batch.to(self._device), penalised=seed % 2 == 0)
        total = torch.stack(list(losses.values())).sum()
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        used = [weight for weight in self._parameters if weight.grad is not None]
        torch.nn.utils.clip_grad_norm_(used, self._clip)
        self._optimiser.step()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "codec": self._codec.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self._codec.load_state_dict(state["codec"])
        self._optimiser.load_state_dict(state["optimiser"])

    def _losses(self, batch: Batch, *, penalised: bool) -> dict[str, torch.Tensor]:
        losses: dict[str, torch.Tensor] = {}
        features: torch.Tensor | None = None
        stacked: list[torch.Tensor] = []
        if batch.patches is not None and batch.truth is not None:
            features, stacked = vision_features(self.model, batch.patches, batch.grid)
            losses |= self._vision_losses(batch, features)
        elif batch.truth is not None:
            features = self._noisy_embedding(batch.truth)
        if batch.tokens is not None and batch.answers is not None:
            states = language_states(
                self.model,
                batch.tokens,
                features=features,
                stacked=stacked,
                image_start=batch.image_start,
                grid=batch.grid,
            )
            chosen = batch.answers != IGNORED
            logits = self.model.lm_head(states[chosen]).float()
            if penalised:
                logits = penalise_repetition(logits, batch.tokens, chosen, REPETITION_PENALTY)
            losses["answer"] = functional.cross_entropy(logits, batch.answers[chosen])
        return losses

    def _vision_losses(self, batch: Batch, features: torch.Tensor) -> dict[str, torch.Tensor]:
        assert batch.truth is not None
        read = self._codec.read(features).float()
        apart = functional.mse_loss(features.float(), self._codec.embed(batch.truth).float())
        return {
            "cells": CELL_WEIGHT * functional.binary_cross_entropy_with_logits(read, batch.truth),
            "alignment": ALIGNMENT_WEIGHT[batch.kind] * apart,
        }

    def _noisy_embedding(self, truth: torch.Tensor) -> torch.Tensor:
        noisy = truth + 0.08 * torch.randn_like(truth)
        kept = torch.rand_like(truth) > 0.02
        embedded = self._codec.embed(noisy * kept)
        return embedded + 0.15 * torch.randn_like(embedded)
