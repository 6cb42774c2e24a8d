"""What a reproduction needs and finds: data sets in a folder, bundles by their network, and the command that makes what is missing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from certdicom.datasets.dataset import Dataset
from certdicom.datasets.loading import load_dataset
from certdicom.datasets.structures import structure_of
from certdicom.errors import CertdicomError, one_line
from certdicom.evaluation.models import DIRECT, MULTI_STEP, ONE_SHOT, SEGCERTIFY, can
from certdicom.evaluation.paper import MODELS
from certdicom.models.bundle import DESCRIPTION, Bundle, load_bundle, shipped_bundles

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


_BY_HAND = "describe your own as denoiser@SIGMA in a bundle.json (docs/models.md) and pass --bundles"


@dataclass(frozen=True)
class _Recipe:
    """How `certdicom train` is told of a data set; `noise`: what the paper's sigma of 0.25 is on the network's grid."""

    options: str
    noise: float


_RECIPES = {
    "jsrt": _Recipe("", 0.072),
    "montgomery": _Recipe(" --structures lungs", 0.072),
    "shenzhen": _Recipe(" --structures lungs", 0.072),
    "isic2018": _Recipe(" --structures lesion --grid 192x256", 0.125),
    "cvc_clinicdb": _Recipe(" --structures polyp --grid 288x384", 0.25),
}


@dataclass(frozen=True)
class Missing:
    """Something that a reproduction lacks: what it is, and the command or step that fills it."""

    what: str
    fill: str

    def __str__(self) -> str:
        return f"{self.what}: {self.fill}"


def find_dataset(folder: Path, name: str) -> Dataset | Missing:
    """The paper's data set `name` in `folder`, or what to do about it."""
    place = next((folder / entry for entry in FOLDERS[name] if (folder / entry).is_dir()), None)
    if place is None:
        return Missing(f"data set {name}", f"put {HOLDS[name]} into {folder / FOLDERS[name][0]}")
    try:
        return load_dataset(place)
    except CertdicomError as error:
        return Missing(f"data set {name}", one_line(error))


def known_bundles(folder: Path | None) -> tuple[Bundle, ...]:
    """The bundles that are shipped and those in the folders of `folder`, by name. BundleError for a damaged one."""
    places = [] if folder is None else sorted(path.parent for path in folder.glob(f"*/{DESCRIPTION}"))
    names: list[str | Path] = [*shipped_bundles(), *places]
    return tuple(load_bundle(name) for name in names)


def find_bundle(bundles: Sequence[Bundle], *, model: str, method: str, data: str) -> Bundle | None:
    """The bundle whose segmenter is `model`, which can be smoothed by `method`, and knows what the paper segments in `data`.

    Of several, one that is named after the data set, then the first.
    """
    fitting = [bundle for bundle in bundles if architecture(bundle) == model and can(bundle, method) and knows(bundle, data)]
    return next((bundle for bundle in fitting if data.split("_", maxsplit=1)[0] in bundle.name.lower()), fitting[0] if fitting else None)


def other_bundles(bundles: Sequence[Bundle], *, method: str, data: str) -> list[Bundle]:
    """Bundles of other networks than the paper's three that know what the paper segments in `data`."""
    return [bundle for bundle in bundles if architecture(bundle) not in MODELS and can(bundle, method) and knows(bundle, data)]


def architecture(bundle: Bundle) -> str:
    return str(bundle.networks["segmenter"].get("architecture", ""))


def knows(bundle: Bundle, data: str) -> bool:
    return {structure_of(structure.label) for structure in bundle.structures} >= set(STRUCTURES[data])


def how_to_make(*, model: str, method: str, data: str, folder: Path) -> Missing:
    """The commands that train and pack the bundle that is missing."""
    if method == DIRECT:
        return Missing(f"bundle of {model} for {data}, {method}", f"no command trains one denoiser per sigma; {_BY_HAND}")
    if method == MULTI_STEP:
        method = ONE_SHOT  # the same networks
    name = f"{data.replace('_', '-')}-{model.lower().replace('+', 'p')}-{method}"
    recipe = _RECIPES[data]
    common = f"--data {shlex.quote(str(folder / FOLDERS[data][0]))}{recipe.options}"
    network = "--network " + shlex.quote(f'{{"architecture": "{model}"}}')
    steps, behind = [], ""
    if method == SEGCERTIFY:
        behind = f" --noise {recipe.noise:g}"
    else:
        behind = f" --denoiser runs/{data}-denoiser/denoiser.safetensors"
        steps.append(f"certdicom train denoiser {common} --out runs/{data}-denoiser")
    steps.append(f"certdicom train segmenter {common} {network}{behind} --out runs/{name}")
    if data == "jsrt":
        packed = "" if method == SEGCERTIFY else behind
        steps.append(f"certdicom train bundle {common} --segmenter runs/{name}/segmenter.safetensors{packed} --out bundles/{name}")
    last = (
        "pass --bundles bundles" if data == "jsrt" else f"pack the weights as bundles/{name} (docs/training.md) and pass --bundles bundles"
    )
    kind = "" if method == ONE_SHOT else f", {method}"
    return Missing(f"bundle of {model} for {data}{kind}", f"{' && '.join(steps)}; then {last}")
