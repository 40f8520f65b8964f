"""The weights under training: model, read-out of the cells, optimiser, and one step of learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch.nn import functional

from stage_a_pipeline.demo.training.batches import IGNORED, Batch
from stage_a_pipeline.demo.training.forward import language_states, penalise_repetition, vision_features
from stage_a_pipeline.demo.training.supervision import channel_count, rival_states

if TYPE_CHECKING:
    from stage_a_pipeline.demo.training.train import Optimisation

CELL_WEIGHT: Final = 5.0
"""Weight of the loss of reading the truth per cell from the vision features."""

VALUES_WEIGHT: Final = 0.5
"""Weight of the loss of telling an attribute's values apart: rare ones drown in the loss per cell."""

ALIGNMENT_WEIGHT: Final = {"V": 4.0, "T": 4.0, "J": 1.0, "K": 1.0}
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
        self._optimisers = _build_optimisers(self.model, self._codec, optimisation)

    def learn(self, batch: Batch, *, rate: float, seed: int) -> dict[str, float]:
        """One step on a batch; the losses by name.

        `rate` is the share of the full learning rates. The seed drives the noise of the step.
        """
        torch.manual_seed(seed)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * group["full_rate"]
        with torch.autocast(self._device.partition(":")[0], torch.bfloat16):
            losses = self._losses(batch.to(self._device), penalised=seed % 2 == 0)
        total = torch.stack(list(losses.values())).sum()
        for weight in self._parameters:
            weight.grad = None
        total.backward()  # type: ignore[no-untyped-call]
        used = [weight for weight in self._parameters if weight.grad is not None]
        torch.nn.utils.clip_grad_norm_(used, self._clip)
        for optimiser in self._optimisers:
            optimiser.step()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "codec": self._codec.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self._codec.load_state_dict(state["codec"])
        for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)

    def _losses(self, batch: Batch, *, penalised: bool) -> dict[str, torch.Tensor]:
        losses: dict[str, torch.Tensor] = {}
        features: torch.Tensor | None = None
        stacked: list[torch.Tensor] = []
        if batch.patches is not None and batch.truth is not None:
            features, stacked = vision_features(self.model, batch.patches, batch.grid)
            losses |= self._vision_losses(batch, features)
        elif batch.truth is not None:
            features = self._noisy_embedding(batch.truth, gaps=batch.kind == "L")
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
            "values": VALUES_WEIGHT * _values_loss(read, batch.truth),
            "alignment": ALIGNMENT_WEIGHT[batch.kind] * apart,
        }

    def _noisy_embedding(self, truth: torch.Tensor, *, gaps: bool) -> torch.Tensor:
        """The truth as an imperfect vision half gives it; with gaps nobody could count exactly."""
        noisy = truth + 0.08 * torch.randn_like(truth)
        if gaps:
            noisy = noisy * (torch.rand_like(truth) > 0.02)
        embedded = self._codec.embed(noisy)
        return embedded + 0.15 * torch.randn_like(embedded)


def _values_loss(read: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between an attribute's values, over the cells that exactly one of them covers."""
    losses = []
    for rivals in rival_states():
        values = truth[..., rivals]
        decided = values.sum(-1) == 1
        if decided.any():
            target = values[decided].argmax(-1)
            losses.append(functional.cross_entropy(read[..., rivals][decided], target, reduction="none"))
    return torch.cat(losses).mean() if losses else read.sum() * 0


def _build_optimisers(
    model: Any, codec: torch.nn.Module, optimisation: Optimisation
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices within the layers, AdamW for embeddings, biases, norms and the read-out."""
    named = list(model.named_parameters())
    matrices = [weight for name, weight in named if _is_layer_matrix(name, weight)]
    others = [weight for name, weight in named if not _is_layer_matrix(name, weight)]
    others += codec.parameters()
    muon = torch.optim.Muon(
        matrices,
        lr=optimisation.matrix_rate,
        weight_decay=optimisation.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(
        [
            {
                "params": [weight for weight in others if weight.ndim > 1],
                "weight_decay": optimisation.weight_decay,
            },
            {"params": [weight for weight in others if weight.ndim < 2], "weight_decay": 0.0},
        ],
        lr=optimisation.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    for optimiser in (muon, adamw):
        for group in optimiser.param_groups:
            group["full_rate"] = group["lr"]
    return [muon, adamw]


def _is_layer_matrix(name: str, weight: torch.Tensor) -> bool:
    """Whether it maps states to states; embeddings are tables of rows, and the patch kernel sees pixels."""
    return weight.ndim == 2 and any(
        part in name for part in (".blocks.", ".layers.", ".merger.linear", "merger_list")
    )
