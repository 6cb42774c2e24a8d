"""`certdicom bundle list|card|check|pack|export|convert-adm`: the networks that certify, with all that must be known to use them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from certdicom.cli.data_options import add_data, add_structures, films_of
from certdicom.errors import BundleError, UsageError
from certdicom.models.bundle import DEFAULT_BUNDLE, Bundle, load_bundle, shipped_bundles
from certdicom.progress import progress_bar

CARD = "MODEL_CARD.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", required=True, metavar="list|card|check|pack|export|convert-adm")
    listing = what.add_parser("list", help="the bundles that come with this installation")
    listing.add_argument("--json", action="store_true", help="machine-readable")
    card = what.add_parser("card", help="print a bundle's model card: its data and their terms, recipe, scores and limits")
    card.add_argument("bundle", metavar="NAME|FOLDER", nargs="?", default=DEFAULT_BUNDLE, help="which one (default %(default)s)")
    check = what.add_parser("check", help="try a bundle, as one of your own networks, and say what to fix")
    check.add_argument("bundle", metavar="NAME|FOLDER", help="a folder that holds bundle.json, or a shipped bundle")
    check.add_argument("--film", type=Path, metavar="FILE", help="a DICOM film to certify (default: a synthetic chest film)")
    check.add_argument("--preview", type=Path, metavar="PNG", help="write a picture of what it certified")
    check.add_argument("--sigma", type=float, help="noise level (default: the one nearest to 0.25 that the bundle was made for)")
    check.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:i]", help="where to compute (default %(default)s)")
    check.add_argument("--force", action="store_true", help="overwrite an existing picture")
    check.add_argument("--quiet", action="store_true", help="no progress bar")
    pack = what.add_parser("pack", help="pack networks into a bundle folder, with thresholds, model card and self-test")
    add_data(pack)
    add_structures(pack)
    _add_packing(pack)
    export = what.add_parser("export", help="write the programs of a bundle's networks, which OpenVINO runs without PyTorch")
    export.add_argument("bundle", type=Path, metavar="FOLDER", help="a folder that holds bundle.json; its digest changes")
    adm = what.add_parser("convert-adm", help="write the weights of one of OpenAI's ADM checkpoints as safetensors (docs/models.md)")
    adm.add_argument("checkpoint", type=Path, metavar="FILE.pt", help="the checkpoint; the description for bundle.json is printed")
    adm.add_argument("--out", type=Path, metavar="FILE", help="where to (default %(default)s)", default=Path("denoiser.safetensors"))
    adm.add_argument(
        "--adm-flags", default="{}", metavar="JSON", help="guided-diffusion's flags, if not those of 256x256_diffusion_uncond.pt"
    )
    adm.add_argument("--force", action="store_true", help="overwrite")


def _add_packing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--segmenter", action="append", required=True, type=Path, metavar="FILE", help="segmenter weights; again for the mean of several"
    )
    parser.add_argument(
        "--mirror", action="store_true", help="ask the segmenter about each image and its mirror image (twice the work, a little better)"
    )
    parser.add_argument(
        "--denoiser", action="append", default=[], type=Path, metavar="FILE", help="denoiser weights; again for one denoiser a noise level"
    )
    parser.add_argument("--borrow", metavar="BUNDLE", help="use the denoiser of this bundle, shipped or beside --out, instead of a copy")
    parser.add_argument("--int8", action="store_true", help="quantise the networks to 8-bit integers (needs NNCF; another function)")
    parser.add_argument("--multi-step", action="store_true", help="denoise by the whole reverse process instead of one call")
    parser.add_argument(
        "--factor", type=int, default=1, metavar="K", help="the bundle's grid is K times finer than the networks' (default 1)"
    )
    parser.add_argument(
        "--code", action="append", default=[], type=_code, metavar="LABEL=VALUE,SCHEME,MEANING", help="of a structure that has no known one"
    )
    parser.add_argument("--summary", default="", metavar="TEXT", help="one line on what it segments")
    parser.add_argument(
        "--calibration-images",
        type=int,
        default=8,
        metavar="N",
        help="training images that choose thresholds (default %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    return {"list": _list, "card": _card, "check": _check, "pack": _pack, "export": _export, "convert-adm": _convert}[arguments.what](
        arguments
    )


def _list(arguments: argparse.Namespace) -> int:
    bundles = [load_bundle(name) for name in shipped_bundles()]
    if arguments.json:
        print(json.dumps([_fields(bundle) for bundle in bundles], indent=2))
        return 0
    for bundle in bundles:
        low, high = bundle.sigma_range
        print(f"{bundle.name}{' (default)' if bundle.name == DEFAULT_BUNDLE else ''}: {bundle.summary}")
        labels = ", ".join(structure.label for structure in bundle.structures)
        channels = "gray" if bundle.channels == 1 else "colour"
        print(f"  {labels} · {bundle.shape[0]} × {bundle.shape[1]}, {channels}, {bundle.denoising.method} · sigma {low:g} to {high:g}")
        print(f"  SHA-256 {bundle.sha256}")
    return 0


def _fields(bundle: Bundle) -> dict[str, object]:
    return {
        "name": bundle.name,
        "sha256": bundle.sha256,
        "grid": bundle.grid,
        "channels": bundle.channels,
        "method": bundle.denoising.method,
        "structures": [structure.label for structure in bundle.structures],
        "sigma_range": bundle.sigma_range,
        "summary": bundle.summary,
    }


def _card(arguments: argparse.Namespace) -> int:
    path = load_bundle(arguments.bundle).folder / CARD
    try:
        card = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(
            f"{path} cannot be read: a bundle's model card says where its data come from, and their terms; write one"
        ) from error
    print(card)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from certdicom.bundle_check import check_bundle

    failed = 0
    with progress_bar("one film", quiet=arguments.quiet) as progress:
        checks = check_bundle(arguments.bundle, film=arguments.film, sigma=arguments.sigma, device=arguments.device, progress=progress)
        for check in checks:
            print(f"{'ok    ' if check.passed else 'FAILED'}  {check.name}: {check.detail}", flush=True)
            failed += not check.passed
            if check.result is not None and arguments.preview is not None:
                print(f"        {check.result.save(arguments.preview, kind='preview', force=arguments.force)}")
    return BundleError.exit_code if failed else 0


def _pack(arguments: argparse.Namespace) -> int:
    from certdicom.research.training.bundle import CODES, Packing, pack
    from certdicom.research.training.data import STRUCTURES, join
    from certdicom.research.training.weights import load_network, mean_of
    from certdicom.research.training.workers import prepare_process

    prepare_process(threads=arguments.threads, seed=None)
    if arguments.denoiser and arguments.borrow:
        raise UsageError("--denoiser and --borrow both say which denoiser: give one of them")
    segmenter = mean_of([load_network(path) for path in arguments.segmenter])
    grid = arguments.grid or tuple(segmenter.record.get("grid", (256, 256)))
    packing = Packing(
        structures=arguments.structures or segmenter.record.get("structures") or STRUCTURES,
        grid=grid,
        factor=arguments.factor,
        method="multi-step" if arguments.multi_step else None,
        calibration_images=arguments.calibration_images,
        summary=arguments.summary,
        borrow=arguments.borrow,
        mirror=arguments.mirror,
        int8=arguments.int8,
        codes={**CODES, **dict(arguments.code)},
    )
    fine = (arguments.factor * grid[0], arguments.factor * grid[1])
    films = films_of(arguments, "train", grid=fine, structures=packing.structures, channels=segmenter.description["channels"])
    outcomes = pack(
        arguments.out,
        segmenter=segmenter,
        denoisers=[load_network(path) for path in arguments.denoiser],
        packing=packing,
        train=join(list(films.values())),
    )
    _print_outcomes(outcomes)
    print(arguments.out)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from certdicom.models.backends.export import export_bundle

    _print_outcomes(export_bundle(arguments.bundle))
    return 0


def _print_outcomes(outcomes: Mapping[str, str]) -> None:
    for role, outcome in outcomes.items():
        print(f"program of the {role}: {outcome}")


def _code(text: str) -> tuple[str, tuple[str, str, str]]:
    """LABEL=VALUE,SCHEME,MEANING."""
    label, _, code = text.partition("=")
    parts = code.split(",", maxsplit=2)
    if not label or len(parts) != 3 or not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r}: give LABEL=VALUE,SCHEME,MEANING, as liver=10200004,SCT,Liver")
    return label, (parts[0], parts[1], parts[2])


def _convert(arguments: argparse.Namespace) -> int:
    from certdicom.models.networks.adm_checkpoint import convert_adm_checkpoint

    try:
        flags = dict(json.loads(arguments.adm_flags))
    except (ValueError, TypeError) as error:
        raise UsageError(f"--adm-flags is no JSON object: {error}") from error
    print(json.dumps(convert_adm_checkpoint(arguments.checkpoint, arguments.out, flags=flags, force=arguments.force)))
    return 0
