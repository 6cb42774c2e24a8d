"""What a reproduction needs and finds: data sets in a folder, bundles by their network, and the command that makes what is missing."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from certdicom.errors import CertdicomError, one_line
from certdicom.models.bundle import DESCRIPTION, Bundle, load_bundle, shipped_bundles
from certdicom.research.datasets.dataset import Dataset
from certdicom.research.datasets.loading import load_dataset
from certdicom.research.datasets.splits import select
from certdicom.research.datasets.structures import structure_of
from certdicom.research.evaluation.models import DIRECT, MULTI_STEP, ONE_SHOT, SEGCERTIFY, can

FOLDERS = {
    "jsrt": ("jsrt", "JSRT"),
    "montgomery": ("montgomery", "MontgomerySet", "Montgomery"),
    "shenzhen": ("shenzhen", "ChinaSet_AllFiles", "Shenzhen"),
    "isic2018": ("isic2018", "ISIC2018", "isic"),
    "cvc_clinicdb": ("cvc_clinicdb", "CVC-ClinicDB"),
}
"""The folders under which the paper's data sets are looked for."""

HOLDS = {
    "jsrt": "*.IMG and the SCR masks fold1|fold2/masks/ORGAN/*.gif",
    "montgomery": "CXR_png/, ManualMask/leftMask/ and ManualMask/rightMask/",
    "shenzhen": "CXR_png/ and mask/",
    "isic2018": "ISIC2018_Task1-2_Training_Input/ and ISIC2018_Task1_Training_GroundTruth/",
    "cvc_clinicdb": "Original/ and Ground Truth/",
}

STRUCTURES = {
    "jsrt": ("lungs", "heart", "clavicles"),
    "montgomery": ("lungs",),
    "shenzhen": ("lungs",),
    "isic2018": ("lesion",),
    "cvc_clinicdb": ("polyp",),
}
"""What the paper segments in each data set."""


@dataclass(frozen=True)
class _Recipe:
    """How `certdicom train` is told of a data set; `shrinks`: what the paper's sigma is multiplied by on the networks' grid."""

    options: str
    shrinks: float
    packing: str = ""


_FILM = 1 / (2 * sqrt(3))
"""512 × 512 films of three channels with independent noise become gray ones of 256 × 256."""

_RECIPES = {
    "jsrt": _Recipe("", _FILM),
    "montgomery": _Recipe(" --structures lungs", _FILM),
    "shenzhen": _Recipe(" --structures lungs", _FILM),
    "isic2018": _Recipe(" --structures lesion --grid 96x128", 1 / 4, packing=" --factor 2"),
    "cvc_clinicdb": _Recipe(" --structures polyp --grid 96x128", 1 / 3, packing=" --factor 3"),
}

_TRAINED_UNDER = 0.25
"""The paper's noise for SegCertify's training."""

_LEVELS = (0.25, 0.5, 1.0)
"""The paper's noise levels, for each of which Table S3 has a denoiser."""


@dataclass(frozen=True)
class Missing:
    """Something that a reproduction lacks: what it is, and the command or step that fills it."""

    what: str
    fill: str

    def __str__(self) -> str:
        return f"{self.what}: {self.fill}"


def find_dataset(folder: Path, name: str, *, split: str) -> Dataset | Missing:
    """The paper's data set `name` in `folder`, with images in the part `split`, or what to do about it."""
    place = next((folder / entry for entry in FOLDERS[name] if (folder / entry).is_dir()), None)
    if place is None:
        return Missing(f"data set {name}", f"put {HOLDS[name]} into {folder / FOLDERS[name][0]}")
    try:
        dataset = load_dataset(place)
        select(dataset, split)
    except CertdicomError as error:
        return Missing(f"data set {name}", one_line(error))
    return dataset


def known_bundles(folder: Path | None) -> tuple[Bundle, ...]:
    """The bundles in the folders of `folder`, which go first, and those that are shipped, by name. BundleError for a damaged one."""
    places = [] if folder is None else sorted(path.parent for path in folder.glob(f"*/{DESCRIPTION}"))
    names: list[str | Path] = [*places, *shipped_bundles()]
    return tuple(load_bundle(name) for name in names)


def find_bundle(bundles: Sequence[Bundle], *, model: str, method: str, data: str) -> Bundle | None:
    """The bundle whose segmenter is `model`, which can be smoothed by `method`, and knows what the paper segments in `data`.

    Of several, one that is named after the data set, then the first.
    """
    fitting = [bundle for bundle in bundles if architecture(bundle) == model and can(bundle, method) and knows(bundle, data)]
    return next((bundle for bundle in fitting if data.split("_", maxsplit=1)[0] in bundle.name.lower()), fitting[0] if fitting else None)


def other_bundles(bundles: Sequence[Bundle], *, method: str, data: str, than: Collection[str]) -> list[Bundle]:
    """Bundles of other networks `than` those named that know what the paper segments in `data`."""
    return [bundle for bundle in bundles if architecture(bundle) not in than and can(bundle, method) and knows(bundle, data)]


def architecture(bundle: Bundle) -> str:
    return str(bundle.networks["segmenter"].get("architecture", ""))


def knows(bundle: Bundle, data: str) -> bool:
    return {structure_of(structure.label) for structure in bundle.structures} >= set(STRUCTURES[data])


def how_to_make(*, model: str, method: str, data: str, folder: Path) -> Missing:
    """The commands that train and pack the bundle that is missing."""
    name = f"{data.replace('_', '-')}-{model.lower().replace('+', 'p')}-{method}"
    recipe = _RECIPES[data]
    common = f"--data {shlex.quote(str(folder / FOLDERS[data][0]))}"
    grid = re.sub(r" --structures \w+", "", recipe.options)
    network = "--network " + shlex.quote(json.dumps({"architecture": model}))
    denoisers, behind = [], ""
    if method == SEGCERTIFY:
        behind = f" --noise {_TRAINED_UNDER * recipe.shrinks:.3g}"
    elif method == DIRECT:
        denoisers = [(f"runs/{data}-denoiser-{sigma:g}", f" --sigma {sigma * recipe.shrinks:.3g}") for sigma in _LEVELS]
    else:
        denoisers = [(f"runs/{data}-denoiser", "")]
        behind = f" --denoiser {denoisers[0][0]}/denoiser.safetensors"
    steps = [f"certdicom train denoiser {common}{grid}{sigma} --out {out}" for out, sigma in denoisers]
    steps.append(f"certdicom train segmenter {common}{recipe.options} {network}{behind} --out runs/{name}")
    packed = "".join(f" --denoiser {out}/denoiser.safetensors" for out, _ in denoisers) + recipe.packing
    packed += {MULTI_STEP: " --multi-step", SEGCERTIFY: " --calibration-images 0"}.get(method, "")
    steps.append(f"certdicom bundle pack {common} --segmenter runs/{name}/segmenter.safetensors{packed} --out bundles/{name}")
    kind = "" if method == ONE_SHOT else f", {method}"
    return Missing(f"bundle of {model} for {data}{kind}", f"{' && '.join(steps)}; then pass --bundles bundles")
