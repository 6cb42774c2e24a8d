"""Bundles: networks, what they expect, and what may be said of them. Reading one needs no torch.

A bundle is a folder:

    bundle.json               grid, structures, schedule, noise range, network descriptions: docs/models.md has every field
    segmenter.safetensors     weights, or whatever files the descriptions name; a network can be that of another bundle
    denoiser.safetensors
    MODEL_CARD.md             data and their terms, recipe, scores, limits
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from certdicom.certification.certificate import Structure
from certdicom.certification.schedule import Schedule, schedule_from
from certdicom.certification.window import Moments, WindowRule
from certdicom.errors import BundleError, one_line
from certdicom.models.description import (
    DENOISER,
    SEGMENTER,
    TORCH_EXPORT,
    Activation,
    Denoising,
    Method,
    Prediction,
    network_files,
    program_file,
)
from certdicom.models.plausibility import AnatomyModel
from certdicom.models.scheduler import located, read_scheduler
from certdicom.models.specs import InputSpec, OutputSpec

if TYPE_CHECKING:
    from certdicom.models import schema

DEFAULT_BUNDLE = "cxr-gray-256"
DESCRIPTION = "bundle.json"
BORROWED = "bundle"
"""The key that names the bundle whose network of the same role is used."""

_OWN_SHELF = Path(__file__).resolve().parent.parent / "bundles"
_MORE_BUNDLES = "certdicom_bundles"
"""The package of the paper's networks (the distribution certdicom-bundles), which need not be installed."""
_COLOURS = ((86, 180, 233), (213, 94, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167), (0, 114, 178), (230, 159, 0))
"""Okabe and Ito's, for structures whose description has none."""


@dataclass(frozen=True, eq=False, repr=False)
class Bundle:
    """A segmenter, perhaps a denoiser, and everything that must be known to use them; weights stay on disk until they are needed.

    `grid`: rows and columns of the model grid, one number for a square; `channels`: of the images with noise, 1 for gray;
    `structures` in channel order; `sigma_range`: noise levels that the networks were trained for; `thresholds`: (sigma, logits
    above which each structure is present) pairs, rising in sigma; `activation`: whether structures may overlap; `window`: how a
    film becomes an image on the grid where nothing else is asked for; `denoising`: how;
    `input_spec`, `output_spec`: how the segmenter takes images and gives its output; `networks`: the description of each network by role;
    `homes`: the folder that holds each one's files; `programs_sha256`: digests of their programs (`models.program`), by role;
    `integers`: in which those compute ("int8"), None in floating point;
    `sha256`: hex digest over bundle.json and the weights' digests; `anatomy`: what a plausible selection looks like, or None;
    `notice`: what every user must be told.
    """

    name: str
    folder: Path
    sha256: str
    grid: int | tuple[int, int]
    channels: int
    structures: tuple[Structure, ...]
    schedule: Schedule
    sigma_range: tuple[float, float]
    thresholds: tuple[tuple[float, tuple[float, ...]], ...]
    activation: Activation
    window: WindowRule
    denoising: Denoising
    input_spec: InputSpec
    output_spec: OutputSpec
    networks: Mapping[str, Mapping[str, Any]]
    homes: Mapping[str, Path]
    weights_sha256: Mapping[str, str]
    programs_sha256: Mapping[str, str]
    integers: str | None
    anatomy: AnatomyModel | None
    summary: str
    notice: str

    def __repr__(self) -> str:
        rows, columns = self.shape
        labels = ", ".join(structure.label for structure in self.structures)
        return f"Bundle({self.name!r}: {labels}; {rows} × {columns}, {self.denoising.method}, SHA-256 {self.sha256[:12]})"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the model grid."""
        return (self.grid, self.grid) if isinstance(self.grid, int) else self.grid

    @property
    def cells(self) -> int:
        """How many pixels the model grid has."""
        return self.shape[0] * self.shape[1]

    @property
    def enlarges_smoothly(self) -> bool:
        """How a coarser denoiser's images are enlarged: bilinearly, or by repeating pixels, which means in the segmenter undo exactly."""
        return self.input_spec.factor % self.denoising.factor != 0

    @property
    def has_programs(self) -> bool:
        """Whether all networks can be run without PyTorch."""
        return self.denoising.method != "multi-step" and set(self.programs_sha256) >= set(self.networks)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of a certificate of this bundle should know."""
        notes = [self.notice] if self.notice else []
        if any(network.get("format") == TORCH_EXPORT for network in self.networks.values()):
            notes.append("the bundle has a program that runs in the precision in which it was saved, whatever the precision stated")
        return tuple(notes)

    def threshold(self, sigma: float) -> tuple[float, ...]:
        """Each structure's logit threshold at `sigma`: linear between the bundle's pairs, constant beyond them, 0 without any."""
        if not self.thresholds:
            return (0.0,) * len(self.structures)
        sigmas, logits = zip(*self.thresholds, strict=True)
        return tuple(float(np.interp(sigma, sigmas, of_structure)) for of_structure in zip(*logits, strict=True))

    def require_sigma(self, sigma: float) -> None:
        """Raise BundleError when `sigma` is outside what the networks were trained for."""
        low, high = self.sigma_range
        if not low <= sigma <= high:
            raise BundleError(f"sigma = {sigma:g} is outside {low:g} … {high:g}, the noise levels that bundle {self.name} was trained for")
        if self.denoising.method == "direct":
            self.direct_role(sigma)

    def nearest_sigma(self, sigma: float) -> float:
        """The noise level nearest to `sigma` for which the networks may be asked."""
        if self.denoising.method == "direct":
            return min((float(role.partition("@")[2]) for role in self.networks if role != SEGMENTER), key=lambda level: abs(level - sigma))
        low, high = self.sigma_range
        return min(max(sigma, low), high)

    def direct_role(self, sigma: float) -> str:
        """The role of the denoiser that was trained for exactly `sigma`. BundleError when there is none."""
        trained = {role: float(role.partition("@")[2]) for role in self.networks if role != SEGMENTER}
        for role, level in trained.items():
            if abs(level - sigma) <= 1e-9:
                return role
        known = ", ".join(f"{level:g}" for level in sorted(trained.values()))
        raise BundleError(f"bundle {self.name} has no denoiser for sigma = {sigma:g}: it has one for each of {known}")

    def files(self, role: str) -> dict[str, bytes]:
        """The network's files, name → content, their digest checked. BundleError when one is missing or they are damaged."""
        home = self.homes[role]
        contents = _contents(home, role, self.networks[role], name=self.name)
        if _digest(contents) != self.weights_sha256[role]:
            names = ", ".join(str(home / name) for name in contents)
            raise BundleError(
                f"the weights {names} are damaged: their SHA-256 is not the one in {DESCRIPTION}; reinstall the bundle {self.name}"
            )
        return contents

    def program_path(self, role: str) -> Path:
        """Where the network's program lies: that of a borrowed network with its lender, unless it is for images of another size."""
        own = self.folder / program_file(role)
        return own if own.exists() else self.homes[role] / program_file(role)

    def program(self, role: str) -> bytes:
        """The file of the network's program, its digest checked. BundleError when there is none, or it is damaged."""
        path = self.program_path(role)
        if role not in self.programs_sha256:
            raise BundleError(
                f"bundle {self.name} holds no program of its {role}, which OpenVINO could run: use --backend torch, or export one with "
                f"certdicom bundle export {self.folder}"
            )
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"cannot read the program {path}: {error.strerror}; reinstall the bundle {self.name}") from error
        if hashlib.sha256(content).hexdigest() != self.programs_sha256[role]:
            raise BundleError(
                f"the program {path} is damaged: its SHA-256 is not the one in {DESCRIPTION}; reinstall the bundle {self.name}"
            )
        return content

    def weights(self, role: str) -> bytes:
        """The content of the network's files, one after another, checked as in `files`."""
        return b"".join(self.files(role).values())


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles that come with this installation."""
    return tuple(sorted(_shipped()))


def _shipped() -> dict[str, Path]:
    """Name → folder of the bundles that are installed."""
    more = find_spec(_MORE_BUNDLES)
    shelves = [_OWN_SHELF, *map(Path, more.submodule_search_locations or () if more else ())]
    return {entry.parent.name: entry.parent for shelf in shelves for entry in shelf.glob(f"*/{DESCRIPTION}")}


def load_bundle(name_or_folder: str | Path = DEFAULT_BUNDLE) -> Bundle:
    """The shipped bundle of that name, or the bundle in that folder. BundleError when there is none or it is damaged."""
    folder = _shipped().get(str(name_or_folder), Path(name_or_folder))
    path = folder / DESCRIPTION
    try:
        content = path.read_bytes()
    except OSError as error:
        known, more = ", ".join(shipped_bundles()) or "none", "" if find_spec(_MORE_BUNDLES) else " (certdicom-bundles has more)"
        raise BundleError(
            f"no bundle {str(name_or_folder)!r}: installed are {known}{more}; or give a folder that holds {DESCRIPTION}"
        ) from error
    try:
        return _parse(_described_in(content), folder=folder, content=content)
    except (ValueError, KeyError) as error:
        raise BundleError(f"{path} is not a bundle description that this version reads: {one_line(error)}") from error


def _described_in(content: bytes) -> schema.Description:
    """The description in a `bundle.json`. ValueError that says in a line what is wrong with it."""
    from pydantic import ValidationError

    from certdicom.models import schema  # here, because it costs start-up time that most commands need not spend

    try:
        return schema.Description.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(schema.reason(error)) from error


def _parse(described: schema.Description, *, folder: Path, content: bytes) -> Bundle:
    homes = {role: _home(folder, network) for role, network in described.networks.items()}
    networks = {role: located(home, role, _network(home, role, described.networks[role], folder)) for role, home in homes.items()}
    schedule, prediction = _diffusion(described, networks, home=homes.get(DENOISER, folder))
    denoising = _denoising(described, prediction, default="one-shot" if DENOISER in networks else "segcertify")
    _check_roles(networks, denoising)
    known = described.weights_sha256
    digests = {
        role: known.get(role) or _digest(_contents(homes[role], role, network, name=described.name)) for role, network in networks.items()
    }
    unsealed = "" if set(known) >= set(networks) else json.dumps(digests, sort_keys=True)
    low, high = described.sigma_range
    input_spec, output_spec = _specs(described, networks[SEGMENTER])
    return Bundle(
        name=described.name,
        folder=folder,
        sha256=hashlib.sha256(content + unsealed.encode()).hexdigest(),
        grid=_grid(described.grid),
        channels=described.channels,
        structures=tuple(_structure(entry, index) for index, entry in enumerate(described.structures)),
        schedule=schedule,
        sigma_range=(low, high),
        thresholds=tuple(_threshold(entry, structures=len(described.structures)) for entry in described.thresholds),
        activation=described.activation,
        window=WindowRule(described.window.rule, moments=Moments(described.window.mean, described.window.deviation)),
        denoising=denoising,
        input_spec=input_spec,
        output_spec=output_spec,
        networks=networks,
        homes=homes,
        weights_sha256=digests,
        programs_sha256=described.programs_sha256,
        integers=described.integers,
        anatomy=AnatomyModel.from_dict(described.anatomy) if described.anatomy else None,
        summary=described.summary,
        notice=described.notice,
    )


def _denoising(described: schema.Description, prediction: Prediction, *, default: Method) -> Denoising:
    if described.denoising is None:
        return Denoising(default, prediction=prediction)
    asked = described.denoising
    return Denoising(asked.method, asked.steps, asked.eta, asked.prediction or prediction, asked.factor)


def _specs(described: schema.Description, segmenter: Mapping[str, Any]) -> tuple[InputSpec, OutputSpec]:
    """How the segmenter takes images and gives its output."""
    from certdicom.models import schema

    return (
        InputSpec.of(schema.Input.model_validate(segmenter.get("input", {})), channels=described.channels),
        OutputSpec.of(
            schema.Output.model_validate(segmenter.get("output", {})), structures=described.structures, activation=described.activation
        ),
    )


def _home(folder: Path, description: Mapping[str, Any]) -> Path:
    """Where a network's files are: in the bundle's own folder, or in that of the bundle which it is borrowed from."""
    if BORROWED not in description:
        return folder
    name = str(description[BORROWED])
    if set(description) != {BORROWED} or PurePath(name).name != name:
        raise ValueError(f"a borrowed network is described by {{{BORROWED!r}: NAME}} alone, the name of a bundle, not {dict(description)}")
    beside = folder.parent / name
    home = beside if (beside / DESCRIPTION).is_file() else _shipped().get(name)
    if home is None:
        raise BundleError(f"{folder / DESCRIPTION} borrows a network of the bundle {name}, which lies neither beside it nor is installed")
    return home


def _network(home: Path, role: str, description: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The network's description: the bundle's own, or the lender's."""
    if home == folder:
        return description
    lent: Mapping[str, Any] = json.loads((home / DESCRIPTION).read_bytes())["networks"][role]
    if BORROWED in lent:
        raise ValueError(f"the {role} of {home.name} is borrowed itself: name the bundle that has it")
    return lent


def _diffusion(described: schema.Description, networks: Mapping[str, Mapping[str, Any]], *, home: Path) -> tuple[Schedule, Prediction]:
    """The denoiser's schedule and prediction: as the description says, or its diffusers scheduler, or ADM's."""
    own = None if described.schedule is None else schedule_from(described.schedule.model_dump(exclude_none=True))
    scheduler = networks.get(DENOISER, {}).get("scheduler")
    if scheduler is None:
        return own or schedule_from({}), "epsilon"
    contents = _contents(home, DENOISER, networks[DENOISER], name=described.name)
    schedule, prediction = read_scheduler(contents[str(scheduler)])
    return own or schedule, prediction


def _check_roles(networks: Mapping[str, Any], denoising: Denoising) -> None:
    roles = set(networks) - {SEGMENTER}
    if SEGMENTER not in networks:
        raise ValueError("networks must name a segmenter")
    if denoising.method == "direct":
        if not roles or not all(role.startswith(f"{DENOISER}@") and float(role.partition("@")[2]) > 0 for role in roles):
            raise ValueError("with direct denoising, networks names one denoiser@SIGMA for each noise level beside the segmenter")
    elif roles != (set() if denoising.method == "segcertify" else {DENOISER}):
        wanted = "a segmenter alone" if denoising.method == "segcertify" else "segmenter and denoiser"
        raise ValueError(f"with {denoising.method}, networks must name {wanted}, not {', '.join(sorted(networks))}")


def _contents(folder: Path, role: str, description: Mapping[str, Any], *, name: str) -> dict[str, bytes]:
    """The files of one network. BundleError when one cannot be read or lies outside `folder`."""
    contents = {}
    for file in network_files(role, description):
        path = folder / file
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BundleError(f"the weights {path} lie outside the bundle's folder; put the file itself there")
        try:
            contents[file] = path.read_bytes()
        except OSError as error:
            raise BundleError(f"cannot read the weights {path}: {error.strerror}; reinstall the bundle {name}") from error
    return contents


def _digest(contents: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents.values():
        digest.update(content)
    return digest.hexdigest()


def _threshold(entry: schema.Threshold, *, structures: int) -> tuple[float, tuple[float, ...]]:
    logits = entry.logits if isinstance(entry.logits, list) else [entry.logits] * structures
    return entry.sigma, tuple(logits)


def _grid(value: int | list[int]) -> int | tuple[int, int]:
    rows, columns = value if isinstance(value, list) else (value, value)
    return rows if rows == columns else (rows, columns)


def _structure(entry: schema.Structure, index: int) -> Structure:
    value, scheme, meaning = entry.code
    red, green, blue = entry.rgb or _COLOURS[index % len(_COLOURS)]
    return Structure(label=entry.label, code=(value, scheme, meaning), rgb=(red, green, blue))
