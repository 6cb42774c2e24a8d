"""Diffusers' folders: where a pipeline keeps its U-Net, and what its scheduler says of the noise. Reads JSON only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from certdicom.certification.schedule import CosineSchedule, LinearSchedule, ScaledLinearSchedule, Schedule
from certdicom.models.description import DENOISER, Prediction


def located(folder: Path, role: str, description: Mapping[str, Any]) -> dict[str, Any]:
    """A diffusers description with the U-Net's own folder and, if there is one, the scheduler's configuration.

    A pipeline (with `model_index.json`) keeps them in `unet` and `scheduler`; a model folder may hold a `scheduler_config.json`.
    Other descriptions come back as they are.
    """
    if description.get("format") != "diffusers":
        return dict(description)
    place = PurePosixPath(str(description.get("folder", role)))
    pipeline = (folder / place / "model_index.json").is_file()
    scheduler = place / "scheduler" / "scheduler_config.json" if pipeline else place / "scheduler_config.json"
    found = {**description, "folder": str(place / "unet" if pipeline else place)}
    if role == DENOISER and (folder / scheduler).is_file():
        found.setdefault("scheduler", str(scheduler))
    return found


def read_scheduler(content: bytes) -> tuple[Schedule, Prediction]:
    """The variance schedule and the prediction of a scheduler's configuration. ValueError for one that is not known here."""
    fields = json.loads(content)
    if fields.get("trained_betas") is not None or fields.get("rescale_betas_zero_snr"):
        raise ValueError("the diffusers scheduler has betas of its own; give the bundle a schedule")
    steps, kind = int(fields.get("num_train_timesteps", 1000)), fields.get("beta_schedule", "linear")
    ends = {"beta_start": float(fields.get("beta_start", 1e-4)), "beta_end": float(fields.get("beta_end", 2e-2))}
    schedules: dict[str, Schedule] = {
        "linear": LinearSchedule(**ends, steps=steps),
        "scaled_linear": ScaledLinearSchedule(**ends, steps=steps),
        "squaredcos_cap_v2": CosineSchedule(steps),
    }
    if kind not in schedules:
        raise ValueError(f"the diffusers scheduler's beta_schedule is {kind!r}; known are {', '.join(schedules)}")
    prediction = fields.get("prediction_type", "epsilon")
    if prediction not in get_args(Prediction):
        raise ValueError(f"the diffusers scheduler's prediction_type is {prediction!r}; known are {', '.join(get_args(Prediction))}")
    return schedules[kind], prediction
