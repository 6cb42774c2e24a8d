"""Synthetic films as DX and CR objects that a validator accepts, in the variants that real films come in."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from certdicom.errors import UsageError
from certdicom.imaging.synthetic.phantom import chest_phantom

Modality = Literal["DX", "CR"]
WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

_SOP_CLASSES = {"DX": "1.2.840.10008.5.1.4.1.1.1.1", "CR": "1.2.840.10008.5.1.4.1.1.1"}
_COLLIMATED = 0.985
"""Density of a collimated border: nothing reached the detector there."""


def synthetic_film(
    *,
    modality: Modality = "DX",
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
    rows: int = 512,
    columns: int = 448,
    bits_stored: int = 12,
    bits_allocated: int | None = None,
    high_bit: int | None = None,
    signed: bool = False,
    rescale: tuple[float, float] | None = None,
    modality_lut: bool = False,
    window: WindowFunction | None = "LINEAR",
    voi_lut_bits: int | None = None,
    padding: int = 0,
    collimation: int = 0,
    spacing: tuple[float, float] | None = (0.14, 0.14),
    view_position: str = "PA",
    seed: int = 0,
    noise: float = 0.012,
) -> tuple[FileDataset, dict[str, NDArray[np.bool_]]]:
    """A synthetic chest film, uncompressed, and its masks "lungs", "heart", "clavicles" (rows, columns) bool.

    `rescale`: (slope, intercept); `modality_lut`: a Modality LUT Sequence instead; `window`: the function of
    WindowCenter and WindowWidth, None for no window; `voi_lut_bits`: a VOI LUT Sequence with entries of so many
    bits instead of a window; `padding`, `collimation`: columns of padding and lines of collimated border at each
    side; `spacing`: ImagerPixelSpacing in mm. DX allows neither `rescale`, `modality_lut`, nor `signed`
    (PS3.3 C.8.11.3): such films are still made, for tests. The same arguments give the same pixels; UIDs are derived from them.
    """
    allocated = (8 if bits_stored <= 8 else 16) if bits_allocated is None else bits_allocated
    high = bits_stored - 1 if high_bit is None else high_bit
    if modality not in _SOP_CLASSES:
        raise UsageError(f"a synthetic film is DX or CR, not {modality!r}")
    if not 6 <= bits_stored <= allocated or allocated not in (8, 16) or not bits_stored <= high + 1 <= allocated:
        raise UsageError(f"bits allocated {allocated}, stored {bits_stored}, high bit {high} cannot be written")
    phantom = chest_phantom(rows, columns, seed=seed, noise=noise)
    values = _quantise(phantom.density, bits_stored=bits_stored, collimation=collimation)
    if photometric == "MONOCHROME1":
        values = (1 << bits_stored) - 1 - values
    blank = 0 if photometric == "MONOCHROME2" else (1 << bits_stored) - 1
    if padding:
        values[:, :padding] = blank
        values[:, -padding:] = blank
    offset = 1 << (bits_stored - 1) if signed else 0
    words = ((values - offset) & ((1 << bits_stored) - 1)) << (high + 1 - bits_stored)
    if signed and high == bits_stored - 1:
        words = values - offset  # the customary form: the sign fills the unused bits

    identity = [str(part) for part in (modality, photometric, rows, columns, bits_stored, allocated, high, signed, rescale)]
    identity += [str(part) for part in (modality_lut, window, voi_lut_bits, padding, collimation, spacing, view_position, seed, noise)]
    dataset = _header(modality, identity=identity, view_position=view_position)
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, columns, 1
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, bits_stored, high
    dataset.PixelRepresentation = int(signed)
    if padding:
        dataset.add_new("PixelPaddingValue", "SS" if signed else "US", int(blank - offset))
    if spacing is not None:
        dataset.ImagerPixelSpacing = [spacing[0], spacing[1]]
    _add_presentation(
        dataset,
        photometric=photometric,
        lowest=-offset,
        highest=(1 << bits_stored) - 1 - offset,
        rescale=rescale,
        modality_lut=modality_lut,
        window=window,
        voi_lut_bits=voi_lut_bits,
    )
    raw = words.astype(np.int64) & ((1 << allocated) - 1)
    data = raw.astype("<u1" if allocated == 8 else "<u2").tobytes()
    dataset.add_new("PixelData", "OW" if allocated == 16 else "OB", data + b"\0" * (len(data) % 2))
    return dataset, phantom.masks


def _quantise(density: NDArray[np.float32], *, bits_stored: int, collimation: int) -> NDArray[np.int64]:
    """Whole values with a margin at both ends, so that the value that stands for padding occurs nowhere else."""
    top = (1 << bits_stored) - 1
    if collimation:
        density = density.copy()
        inner = density[collimation:-collimation, collimation:-collimation].copy()
        density[:] = _COLLIMATED
        density[collimation:-collimation, collimation:-collimation] = inner
    margin = 0.02 * top
    values = np.rint(margin + density.astype(np.float64) * (top - 2 * margin)).astype(np.int64)
    return np.clip(values, 1, top - 1)


def _header(modality: str, *, identity: list[str], view_position: str) -> FileDataset:
    study, series, instance = (generate_uid(entropy_srcs=[level, *identity]) for level in ("study", "series", "instance"))
    dataset = FileDataset("", {}, preamble=b"\0" * 128, is_implicit_VR=False, is_little_endian=True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(_SOP_CLASSES[modality])
    dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = UID("2.25.163094470735929103871325118846190474213")
    dataset.SOPClassUID, dataset.SOPInstanceUID = _SOP_CLASSES[modality], instance
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = "Synthetic^Film", "SYNTHETIC"
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.StudyDate = dataset.ContentDate = dataset.AcquisitionDate = "20200101"
    dataset.StudyTime = dataset.ContentTime = dataset.AcquisitionTime = "120000"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "", ""
    dataset.StudyDescription = "Synthetic chest film"
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = modality, 1, 1
    dataset.Manufacturer, dataset.ManufacturerModelName = "certdicom", "synthetic film"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", view_position
    dataset.PatientOrientation = ["L", "F"]
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    if modality == "DX":
        dataset.PresentationIntentType = "FOR PRESENTATION"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
        dataset.ImageLaterality = "U"
        dataset.AnatomicRegionSequence = Sequence([_code("816094009", "SCT", "Chest")])
        views = {"PA": ("272479007", "postero-anterior"), "AP": ("399348003", "antero-posterior")}
        if view_position in views:
            value, meaning = views[view_position]
            dataset.ViewCodeSequence = Sequence([_code(value, "SCT", meaning)])
        dataset.AcquisitionContextSequence = Sequence([])
        dataset.DetectorType, dataset.DetectorID = "DIRECT", "SYNTHETIC"
        dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", -1
        dataset.PositionerType = "NONE"
    return dataset


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _add_presentation(
    dataset: Dataset,
    *,
    photometric: str,
    lowest: int,
    highest: int,
    rescale: tuple[float, float] | None,
    modality_lut: bool,
    window: WindowFunction | None,
    voi_lut_bits: int | None,
) -> None:
    signed = lowest < 0
    if dataset.Modality == "DX":
        dataset.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
        rescale = rescale or (None if modality_lut else (1.0, 0.0))
    low, high = float(lowest), float(highest)
    if modality_lut:
        entries = np.rint(65535.0 * np.linspace(0.0, 1.0, highest - lowest + 1) ** 0.7).astype(int)
        dataset.ModalityLUTSequence = Sequence([_lut(entries, first=lowest, bits=16, signed=signed)])
        dataset.ModalityLUTSequence[0].ModalityLUTType = "US"
        low, high = float(entries[0]), float(entries[-1])
    elif rescale is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = rescale[0], rescale[1], "US"
        low, high = sorted(rescale[0] * end + rescale[1] for end in (low, high))
    if voi_lut_bits is not None:
        first, count = int(np.floor(low + 0.1 * (high - low))), int(0.8 * (high - low)) + 1
        ramp = np.linspace(0.0, 1.0, count)
        entries = np.rint(((1 << voi_lut_bits) - 1) * (3 * ramp**2 - 2 * ramp**3)).astype(int)
        dataset.VOILUTSequence = Sequence([_lut(entries, first=first, bits=voi_lut_bits, signed=low < 0)])
        dataset.VOILUTSequence[0].LUTExplanation = "Smooth step"
    elif window is not None:
        dataset.WindowCenter, dataset.WindowWidth = round((low + high) / 2), round(0.9 * (high - low))
        if window != "LINEAR":
            dataset.VOILUTFunction = window


def _lut(entries: NDArray[np.int64], *, first: int, bits: int, signed: bool) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [_as_vr(len(entries) & 0xFFFF, signed), first, bits])
    item.add_new("LUTData", "OW", (_packed(entries) if bits == 8 else entries).astype("<u2").tobytes())
    return item


def _as_vr(value: int, signed: bool) -> int:
    return value - 65536 if signed and value > 32767 else value


def _packed(entries: NDArray[np.int64]) -> NDArray[np.int64]:
    """8-bit entries two to a word, the first in the low byte (PS3.3 C.11.1.1.1)."""
    even = np.append(entries, 0)[: len(entries) + len(entries) % 2]
    return np.asarray(even[0::2] | (even[1::2] << 8))
