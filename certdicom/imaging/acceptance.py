"""Whether a header says that the image is one that can be certified: a frontal chest radiograph, or a colour photograph.

Only what the header says is judged. An attribute that is missing is no reason to refuse: it is noted. An
attribute that says something else is.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Collection
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from certdicom.certification.certificate import Structure
from certdicom.errors import ImageRefusedError, NoImageError
from certdicom.imaging import header

ANYWAY = "use --accept-any to read it anyway"

MODALITIES = ("CR", "DX", "RG")
"""Computed radiography, digital radiography, radiographic imaging (film); PS3.3 C.7.3.1.1.1."""

_RADIOGRAPH_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",
}
"""SOP classes that stand for a missing Modality."""

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CAPTURE_NOTE = "a Secondary Capture that says Modality {modality}: it may have been processed or burned in"
_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"

CHEST_WORDS = (
    *("CHEST", "CHST", "THORA", "TORAX", "TORAC", "TORAKS", "CXR", "LUNG", "PULMO", "PLUC", "PLUCA", "POUMON", "POLMON", "KEUHKO"),
    *("RIB", "HEART", "BRUST", "PECHO", "PEITO", "PETTO", "POITRINE", "KLATKA", "HRUDNI", "MELLKAS", "BORSTKAS", "GOGUS", "GRUDN"),
)
"""A body part is the chest if its name, without accents, contains one of these: the Defined Terms of PS3.16 annex L, what vendors write,
and the chest in the languages that films come in."""

_SAYS_NOTHING = frozenset({"", "UNKNOWN", "OTHER", "BODY", "TRUNK", "NA", "NONE", "UNSPECIFIED", "UNDEFINED", "ANY", "DEFAULT"})
"""Body parts, in letters alone, that say nothing about which part it is, or of which the chest is one."""

_CHEST_STRUCTURES = ("CLAVIC", "CARDI", "MEDIAST", "TRACHEA", "DIAPHRAGM", "PLEURA", "PNEUMO", "BRONCH", "AORT")
"""What is segmented on chest films beside what CHEST_WORDS names, as parts of words."""

_NOT_CHEST = re.compile(r"SPINE|VERTEB|CERVICOTHORAC|THORACOLUMBAR|TLSPINE|TSPINE")
"""Body parts whose name contains a word of the chest, but whose films are of something else."""

CHEST_CODES = {
    ("SCT", "816094009"): "chest",
    ("SCT", "51185008"): "chest",
    ("SRT", "T-D3000"): "chest",
    ("SCT", "43799004"): "intra-thoracic",
    ("SRT", "T-D3050"): "intra-thoracic",
    ("SCT", "39607008"): "lung",
    ("SRT", "T-28000"): "lung",
    ("SCT", "86598002"): "apex of lung",
    ("SRT", "T-280A0"): "apex of lung",
    ("SCT", "113197003"): "rib",
    ("SRT", "T-11300"): "rib",
    ("SCT", "80891009"): "heart",
    ("SRT", "T-32000"): "heart",
    ("SCT", "72410000"): "mediastinum",
    ("SRT", "T-D3300"): "mediastinum",
    ("SCT", "416550000"): "chest and abdomen",
    ("SRT", "R-FAB55"): "chest and abdomen",
    ("SCT", "417437006"): "neck and chest",
    ("SCT", "416152001"): "neck, chest and abdomen",
    ("SCT", "416775004"): "chest, abdomen and pelvis",
    ("SCT", "38266002"): "entire body",
}
"""Anatomic regions that hold the chest: PS3.16 CID 4 and CID 4009, with the SRT codes of older objects."""

FRONTAL_VIEWS = ("AP", "PA")
"""Defined Terms of View Position for frontal views, PS3.3 C.8.11.5 (DX) and C.8.1.1 (CR)."""

_DEFINED_VIEWS = {
    "LL": "left lateral",
    "RL": "right lateral",
    "RLO": "right lateral oblique",
    "LLO": "left lateral oblique",
    "RLD": "right lateral decubitus",
    "LLD": "left lateral decubitus",
}
_OTHER_VIEWS = {
    "lateral": re.compile(r"[LR]{1,2}|[LR]?LAT|LATER\w*|PROFIL\w*|SEITL\w*|XTABLE|CROSSTABLE|SWIMMER\w*|TRANSTHORAC\w*|BOCZN\w*"),
    "oblique": re.compile(r"[LR]LO|[LR][AP]O|OBL\w*|SCHRAG\w*|SKOSN\w*"),
    "decubitus": re.compile(r"[LR]LD|DECUB\w*"),
}
"""Words of View Position that name another view than a frontal one: Defined Terms, and what vendors write."""

FRONTAL_CODES = {
    ("SCT", "399033003"): "frontal",
    ("SRT", "R-102CD"): "frontal",
    ("SCT", "272479007"): "postero-anterior",
    ("SRT", "R-10214"): "postero-anterior",
    ("SCT", "399348003"): "antero-posterior",
    ("SRT", "R-10206"): "antero-posterior",
}
"""Frontal views of PS3.16 CID 4010."""

_FRONTAL_MEANING = re.compile(r"(POSTERO-?ANTERIOR|ANTERO-?POSTERIOR|FRONTAL|PA|AP)( PROJECTION| VIEW)?")
"""What a private code for a frontal view is called."""


PHOTOGRAPH_CLASSES: Final = {
    "1.2.840.10008.5.1.4.1.1.77.1.4": "XC",
    "1.2.840.10008.5.1.4.1.1.77.1.1": "ES",
    SECONDARY_CAPTURE: "",
}
"""SOP classes of colour photographs (VL Photographic, VL Endoscopic, Secondary Capture), with the Modality that they stand for."""

PHOTOGRAPH_MODALITIES: Final = ("XC", "ES", "DMS", "OT")
"""External-camera photography, endoscopy, dermoscopy and other; PS3.3 C.7.3.1.1.1."""

_OURSELVES = "CERTDICOM"


REFERABLE_CLASSES: Final = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.1",
        "1.2.840.10008.5.1.4.1.1.1.1",
        "1.2.840.10008.5.1.4.1.1.1.1.1",
        SECONDARY_CAPTURE,
        "1.2.840.10008.5.1.4.1.1.77.1.1",
        "1.2.840.10008.5.1.4.1.1.77.1.4",
    }
)
"""CR, DX (for presentation and processing), Secondary Capture, VL Endoscopic and Photographic: classes of single images without anatomical
geometry, that a segmentation may refer to (PS3.4 B.5)."""

_UID = re.compile(r"[0-9.]{1,64}")


def require_referable(dataset: Dataset) -> None:
    """ImageRefusedError unless results can refer to the image: by its UIDs, and to an image of its SOP class with one frame."""
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        value = header.text(dataset, keyword)
        if not _UID.fullmatch(value):
            fault = "missing" if not value else "no valid UID"
            raise ImageRefusedError(f"{keyword} is {fault}, so that no result can refer to the image: correct the header")
    if header.text(dataset, "SOPClassUID") not in REFERABLE_CLASSES:
        raise ImageRefusedError(
            f"the image's SOP Class is {_class_name(dataset)}, which no result is written for; "
            "send CR, DX, Secondary Capture, VL Photographic or VL Endoscopic"
        )
    frames = header.whole(dataset, "NumberOfFrames") or 1
    if frames > 1:
        raise ImageRefusedError(f"the image has {frames} frames; only single images can be certified: send the frame that is meant")


def _class_name(dataset: Dataset) -> str:
    """The name of the SOP class; private ones have none, and their UIDs are not repeated."""
    name = str(UID(header.text(dataset, "SOPClassUID")).name)
    return "a private one" if name[:1].isdigit() else name


def judge_radiograph(dataset: Dataset, *, body_parts: Collection[str] = ()) -> tuple[str, ...]:
    """What is odd about a header that passes; ImageRefusedError if it says that this is no frontal chest radiograph.

    `body_parts`: what a site calls the chest in BodyPartExamined, beside CHEST_WORDS.
    """
    return (*_judge_modality(dataset), *_judge_body_part(dataset, body_parts), *_judge_view(dataset), *_judge_orientation(dataset))


def modality_of(dataset: Dataset) -> str:
    """Modality, or what the SOP class stands for if Modality is missing; "" if neither is known."""
    return header.text(dataset, "Modality") or _RADIOGRAPH_CLASSES.get(header.text(dataset, "SOPClassUID"), "")


def _judge_modality(dataset: Dataset) -> tuple[str, ...]:
    modality = modality_of(dataset)
    sop_class = header.text(dataset, "SOPClassUID")
    if not modality:
        raise ImageRefusedError(f"Modality is missing and its SOP Class, {_class_name(dataset)}, does not tell it; {ANYWAY}")
    if modality not in MODALITIES:
        raise header.refusal(f"Modality {{modality}} is not a plain radiograph (CR, DX or RG); {ANYWAY}", modality=modality)
    notes = []
    if sop_class == SECONDARY_CAPTURE:
        notes.append(CAPTURE_NOTE.format(modality=modality))
    if sop_class == _FOR_PROCESSING or header.text(dataset, "PresentationIntentType") == "FOR PROCESSING":
        notes.append("raw detector data (FOR PROCESSING), which does not look like the films that models are trained on")
    return tuple(notes)


def _judge_body_part(dataset: Dataset, body_parts: Collection[str]) -> tuple[str, ...]:
    stated = _as_utf8(str(next(iter(header.values(dataset, "BodyPartExamined")), "")))  # before capitals, which are not UTF-8 any more
    part = _readable(stated.strip(" \0").upper())
    known = _plain(stated) in {_plain(name) for name in body_parts}
    if not known and _letters(part) not in _SAYS_NOTHING:
        known = True
        if not _is_chest(part):
            raise header.refusal(f"BodyPartExamined {{part}} is not the chest; {ANYWAY}", part=part)
    for item in header.items(dataset, "AnatomicRegionSequence"):
        known = True
        meaning = header.text(item, "CodeMeaning")
        if _code(item) not in CHEST_CODES and not _is_chest(meaning):
            raise header.refusal(
                f"AnatomicRegionSequence says {{region}}, which is not the chest; {ANYWAY}", region=meaning or _code(item)[1]
            )
    return () if known else ("the header does not say which body part this is",)


def is_of_chest(structure: Structure) -> bool:
    """Whether a structure that a bundle segments is one of the chest, by its code or by its name."""
    value, scheme, meaning = structure.code
    if (scheme, value) in CHEST_CODES:
        return True
    return any(_is_chest(name) or any(word in name for word in _CHEST_STRUCTURES) for name in (structure.label.upper(), meaning.upper()))


def _is_chest(name: str) -> bool:
    letters = _letters(name)
    return any(word in letters for word in CHEST_WORDS) and not _NOT_CHEST.search(letters)


def _as_utf8(text: str) -> str:
    """Text that was read as Latin-1, as UTF-8 where that is what it is."""
    with contextlib.suppress(UnicodeError):
        return text.encode("latin-1").decode("utf-8")
    return text


def _readable(text: str) -> str:
    """The text; "" where most of it is in another script, which nobody here can read."""
    foreign = sum(not letter.isascii() for letter in text)
    return "" if 2 * foreign > len(text) else text


def _plain(name: str) -> str:
    """A name as it is compared with those that a site lists: capitals, without accents, blanks and punctuation, in any script."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKD", name.upper()))


def _letters(name: str) -> str:
    """The letters of a name in capitals, without accents, blanks and punctuation; letters of other scripts are left out."""
    return re.sub(r"[^A-Z]", "", unicodedata.normalize("NFKD", name.upper()))


def _judge_view(dataset: Dataset) -> tuple[str, ...]:
    views = [view for view in header.texts(dataset, "ViewPosition") if view]
    for view in views:
        if named := _other_view(view):
            raise header.refusal(f"ViewPosition {{view}} is another view, {named}, and not a frontal one; {ANYWAY}", view=view)
    codes = list(header.items(dataset, "ViewCodeSequence"))
    for item in codes:
        meaning = header.text(item, "CodeMeaning") or _code(item)[1]
        if _code(item) not in FRONTAL_CODES and not _FRONTAL_MEANING.fullmatch(meaning):
            raise header.refusal(f"ViewCodeSequence says {{meaning}}, which is not a frontal view; {ANYWAY}", meaning=meaning)
        for modifier in header.items(item, "ViewModifierCodeSequence"):
            if named := _other_view(header.text(modifier, "CodeMeaning")):
                raise ImageRefusedError(f"ViewModifierCodeSequence says {named}, which is not a frontal view; {ANYWAY}")
    if codes or any(view in FRONTAL_VIEWS for view in views):
        return ()
    if not views:
        return ("the header does not say which view this is",)
    return (f"ViewPosition {header.told(views[0])} was taken as frontal",)


def _other_view(text: str) -> str | None:
    """Which view other than a frontal one a word of the text names; None where none does."""
    words = re.split(r"[^A-Z]+", unicodedata.normalize("NFKD", text.upper()).encode("ascii", "ignore").decode())
    if text in _DEFINED_VIEWS:
        return _DEFINED_VIEWS[text]
    for name, pattern in _OTHER_VIEWS.items():
        if any(pattern.fullmatch(word) for word in (*words, "".join(words))):
            return name
    return None


def _judge_orientation(dataset: Dataset) -> tuple[str, ...]:
    """PatientOrientation: where the rows and the columns run to (PS3.3 C.7.6.1.1.1); a frontal film runs L or R, and F."""
    directions = header.texts(dataset, "PatientOrientation")
    if len(directions) != 2 or not all(directions):
        return ()
    row, column = (direction[0] for direction in directions)
    if row in "AP" or column in "AP":
        raise header.refusal(
            f"PatientOrientation {{directions}} is a lateral view, not a frontal one; {ANYWAY}", directions="/".join(directions)
        )
    if row == "R" and column == "F":
        return ("PatientOrientation R/F: the film is mirrored, the patient's right is on its right",)
    if (row, column) != ("L", "F"):
        return (f"PatientOrientation {header.told('/'.join(directions))}: the film is not shown upright",)
    return ()


def _code(item: Dataset) -> tuple[str, str]:
    scheme = header.text(item, "CodingSchemeDesignator")
    return ("SRT" if scheme in ("SNM3", "99SDM") else scheme, header.text(item, "CodeValue"))


def is_photograph(dataset: Dataset) -> bool:
    """Whether the image is to be read as a colour photograph: by its SOP class, and because its pixels are not gray."""
    gray = header.text(dataset, "PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2", "")
    return header.text(dataset, "SOPClassUID") in PHOTOGRAPH_CLASSES and not gray


def require_image(dataset: Dataset) -> None:
    """NoImageError for what nobody took: a DICOMDIR, what has no picture, and results, which certified again would bring forth more."""
    if "DirectoryRecordSequence" in dataset:
        raise NoImageError("this is a DICOMDIR, the list of the files beside it: give those")
    if _OURSELVES in (header.text(dataset, keyword).upper() for keyword in ("SecondaryCaptureDeviceManufacturer", "ManufacturerModelName")):
        raise NoImageError("this is a result that certdicom wrote: give the image that it was made of, or read it with certdicom info")
    if "Rows" not in dataset and "PixelData" not in dataset and header.text(dataset, "SOPClassUID"):
        raise NoImageError(f"this object holds no picture: it is {_class_name(dataset)}")


def judge_photograph(dataset: Dataset) -> tuple[str, ...]:
    """What is odd about a photograph's header that passes; ImageRefusedError if it says that this is something else."""
    sop_class = header.text(dataset, "SOPClassUID")
    modality = header.text(dataset, "Modality") or PHOTOGRAPH_CLASSES[sop_class]
    if not modality:
        raise ImageRefusedError(f"Modality is missing and {UID(sop_class).name} does not tell it; {ANYWAY}")
    if modality not in PHOTOGRAPH_MODALITIES:
        known = ", ".join(PHOTOGRAPH_MODALITIES[:-1])
        raise header.refusal(
            f"Modality {{modality}} is not that of a colour photograph ({known} or {PHOTOGRAPH_MODALITIES[-1]}); {ANYWAY}",
            modality=modality,
        )
    return (CAPTURE_NOTE.format(modality=modality),) if sop_class == SECONDARY_CAPTURE else ()
