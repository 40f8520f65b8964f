"""Trainings on leased devices."""

from __future__ import annotations

from contextlib import ExitStack

from stage_a_pipeline.inference.devices import leased, list_workers
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.stage_b.launch import require_extra, run_training
from stage_a_pipeline.stage_b.training import Trained, TrainingAudience, claim_training, require_trainable


def train_on_devices(settings: Settings, audience: TrainingAudience, *, run_id: str) -> Trained:
    """As run_training, once every device of the settings is this process's.

    LockedError at once while another run trains in the same folder.
    """
    require_extra(settings.grpo)
    require_trainable(settings)
    with ExitStack() as held:
        held.enter_context(claim_training(settings, run_id=run_id))
        for worker in list_workers(settings.engine.devices):
            held.enter_context(leased(worker, settings.inference.lease_dir, on_wait=audience.notice))
        return run_training(settings, audience, run_id=run_id)
