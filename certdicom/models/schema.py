"""What may stand in a bundle's `bundle.json`, field by field (docs/models.md). An unknown field is refused: it would be ignored."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from certdicom.certification.window import Moments
from certdicom.errors import UsageError
from certdicom.models.description import TORCH_EXPORT, Activation, Method, Prediction

FORMAT = 2
"""What is written; format 1 is read too."""

Pair = Annotated[list[float], Field(min_length=2, max_length=2)]
Factor = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _nothing_unknown(cls, fields: Any) -> Any:
        if isinstance(fields, Mapping):
            require_known(fields, list(cls.model_fields))
        return fields


class Input(_Strict):
    """How a segmenter takes images: `range`, or `mean` and `std`."""

    channels: PositiveInt | None = None
    range: Pair | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    factor: Factor = 1
    mirror: bool = False

    @model_validator(mode="after")
    def _one_scale(self) -> Input:
        if self.range is not None:
            if self.mean is not None or self.std is not None:
                raise ValueError("input takes either range or mean and std")
            if not self.range[0] < self.range[1]:
                raise ValueError(f"range must rise, not {self.range}")
        return self


class Output(_Strict):
    """What a segmenter gives."""

    channels: PositiveInt | None = None
    kind: Literal["logits", "probabilities"] = "logits"


class Structure(_Strict):
    """One structure; `channel`: the output that it is read from, or several that make it up."""

    label: str
    code: Annotated[list[str], Field(min_length=3, max_length=3)]
    rgb: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)] | None = None
    channel: int | Annotated[list[int], Field(min_length=1)] | None = None


class Schedule(_Strict):
    """The diffusion model's variance schedule."""

    kind: Literal["linear", "scaled-linear", "cosine"] = "linear"
    beta_start: float | None = None
    beta_end: float | None = None
    steps: PositiveInt | None = None


class Denoising(_Strict):
    """How a bundle denoises; see `description.Denoising`."""

    method: Method = "one-shot"
    steps: PositiveInt | None = None
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0
    prediction: Prediction | None = None
    factor: Factor = 1


class Threshold(_Strict):
    """The logits above which structures are present at one noise level: one for all, or one for each."""

    sigma: float
    logits: float | list[float]


class WindowSection(_Strict):
    """How a gray film becomes an image on the model grid: by its header's window where it has one, or always by the displayed window.

    `mean` and `deviation` are those of the displayed window; they are constants of the bundle, since its networks know films so.
    """

    rule: Literal["header-or-displayed", "displayed"] = "header-or-displayed"
    mean: float = Moments.mean
    deviation: float = Moments.deviation

    @model_validator(mode="after")
    def _possible(self) -> WindowSection:
        try:
            Moments(self.mean, self.deviation)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self


class Description(_Strict):
    """A whole `bundle.json`. In format 1 `activation` and `denoising` may be missing, and thresholds are [sigma, logits] pairs."""

    format: Literal[1, 2]
    name: str
    summary: str = ""
    notice: str = ""
    grid: PositiveInt | Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]
    channels: PositiveInt
    structures: Annotated[list[Structure], Field(min_length=1)]
    activation: Activation = "sigmoid"
    window: WindowSection = Field(default_factory=WindowSection)
    sigma_range: Pair
    thresholds: list[Threshold] = []
    networks: dict[str, dict[str, Any]]
    denoising: Denoising | None = None
    schedule: Schedule | None = None
    weights_sha256: dict[str, str] = {}
    programs_sha256: dict[str, str] = {}
    integers: Literal["int8"] | None = None
    anatomy: dict[str, Annotated[list[float | None], Field(min_length=2, max_length=2)]] | None = None

    @field_validator("grid", mode="before")
    @classmethod
    def _sides(cls, value: Any) -> Any:
        sides = value if isinstance(value, list) and len(value) == 2 else [value]
        if not all(isinstance(side, int) and side > 0 for side in sides):
            raise ValueError(f"grid must be a positive whole number, or [rows, columns], not {value!r}")
        return value

    @field_validator("thresholds", mode="before")
    @classmethod
    def _pairs(cls, values: Any) -> Any:
        if not isinstance(values, list):
            return values
        return [{"sigma": value[0], "logits": value[1]} if isinstance(value, list) and len(value) == 2 else value for value in values]

    @field_validator("networks")
    @classmethod
    def _known_networks(cls, networks: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for role, fields in networks.items():
            try:
                _check_network(fields)
            except ValueError as error:
                raise ValueError(f"{role}: {error}") from error
        return networks

    @model_validator(mode="after")
    def _whole(self) -> Description:
        if self.format == FORMAT:
            for name in ("activation", "denoising"):
                if name not in self.model_fields_set:
                    raise ValueError(f"format {FORMAT} must say {name}: nothing about how a network is read is left to a default")
        for threshold in self.thresholds:
            if isinstance(threshold.logits, list) and len(threshold.logits) != len(self.structures):
                raise ValueError(f"{len(threshold.logits)} thresholds at sigma {threshold.sigma:g} for {len(self.structures)} structures")
        return self


_READING: dict[str, Any] = {"input": Input, "output": Output}
_FILES = {
    TORCH_EXPORT: ["file"],
    "monai-bundle": ["folder", "config", "weights", "network"],
    "diffusers": ["folder", "scheduler"],
}


def _check_network(fields: Mapping[str, Any]) -> None:
    """The parts of a network's description that certdicom reads itself; an architecture's own arguments are checked by building it."""
    form = fields.get("format")
    if form in _FILES:
        require_known(fields, ["format", *_FILES[form], *_READING])
    elif "architecture" in fields:
        for name in fields:
            near = get_close_matches(name, ["architecture", "file", *_READING], n=1, cutoff=0.8)
            if near and near[0] != name:
                raise ValueError(f"unknown field {name!r}: did you mean {near[0]!r}?")
    for name, model in _READING.items():
        if name in fields:
            try:
                model.model_validate(fields[name])
            except ValidationError as error:
                raise ValueError(f"{name}: {reason(error)}") from error


def require_known(fields: Mapping[str, Any], known: list[str]) -> None:
    """ValueError for a field that is not `known`."""
    for name in fields:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            raise ValueError(f"unknown field {name!r}: " + (f"did you mean {near[0]!r}?" if near else f"use {', '.join(known)}"))


def reason(error: ValidationError) -> str:
    """The first thing that is wrong, in a line: where it stands, and what may stand there."""
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    place = ".".join(names)
    match first["type"]:
        case "value_error":
            message = str(first["ctx"]["error"])
            return f"{place}: {message}" if place else message
        case "missing":
            return f"the field {place!r} is missing"
        case "literal_error":
            return f"unknown {names[-1]} {first['input']!r}: use {first['ctx']['expected']}"
        case _:
            return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}, not {str(first['input'])[:60]!r}"
