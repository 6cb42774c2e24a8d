"""Coded concepts, each as (value, coding scheme, meaning), and the one segment that is not anatomy: Abstain.

Values and meanings follow PS3.16; the tests look each of them up in pydicom's dictionaries.
"""

from __future__ import annotations

import hashlib
from typing import Final

from certdicom.certification.certificate import Structure

Concept = tuple[str, str, str]

LUNG: Final[Concept] = ("39607008", "SCT", "Lung")
HEART: Final[Concept] = ("80891009", "SCT", "Heart")
CLAVICLE: Final[Concept] = ("51299004", "SCT", "Clavicle")
CHEST: Final[Concept] = ("43799004", "SCT", "Chest cavity")
ENTIRE_BODY: Final[Concept] = ("38266002", "SCT", "Entire body")

ANATOMICAL_STRUCTURE: Final[Concept] = ("91723000", "SCT", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL_STRUCTURE: Final[Concept] = ("49755003", "SCT", "Morphologically Abnormal Structure")
SPATIAL_AND_RELATIONAL_CONCEPT: Final[Concept] = ("309825002", "SCT", "Spatial and Relational Concept")
INDETERMINATE: Final[Concept] = ("82334004", "SCT", "Indeterminate")

ARTIFICIAL_INTELLIGENCE: Final[Concept] = ("123110", "DCM", "Artificial Intelligence")
PROCESSING_EQUIPMENT: Final[Concept] = ("109102", "DCM", "Processing Equipment")

LUNGS: Final = frozenset({LUNG[:2], ("44029006", "SCT"), ("3341006", "SCT")})
"""(value, scheme) of lung, left lung and right lung: together they are as wide as the inner thorax."""

SKIN_LESION: Final[Concept] = ("95324001", "SCT", "Skin lesion")
POLYP_OF_COLON: Final[Concept] = ("68496003", "SCT", "Polyp of colon")
_LESIONS: Final[tuple[Concept, ...]] = (
    ("52988006", "SCT", "Lesion"),
    SKIN_LESION,
    POLYP_OF_COLON,
    ("108369006", "SCT", "Neoplasm"),
    ("27925004", "SCT", "Nodule"),
    ("4147007", "SCT", "Mass"),
)
ABNORMALITIES: Final = frozenset({*(concept[:2] for concept in _LESIONS), ("41329004", "SCT")})
"""(value, scheme) of what is no part of a healthy body; 41329004 is a polyp anywhere, which the tables of PS3.16 do not list."""

SOURCE_IMAGE: Final[Concept] = ("121322", "DCM", "Source image for image processing operation")
IMAGING_PROCEDURE: Final[Concept] = ("363679005", "SCT", "Imaging procedure")
AREA: Final[Concept] = ("42798000", "SCT", "Area")
WIDTH: Final[Concept] = ("103355008", "SCT", "Width")
EQUIVALENT_MEANING: Final[Concept] = ("121050", "DCM", "Equivalent Meaning of Concept Name")
MINIMUM: Final[Concept] = ("255605001", "SCT", "Minimum")
MAXIMUM: Final[Concept] = ("56851009", "SCT", "Maximum")

SQUARE_MILLIMETER: Final[Concept] = ("mm2", "UCUM", "square millimeter")
MILLIMETER: Final[Concept] = ("mm", "UCUM", "mm")
PERCENT: Final[Concept] = ("%", "UCUM", "Percent")
RATIO: Final[Concept] = ("{ratio}", "UCUM", "ratio")
NO_UNITS: Final[Concept] = ("1", "UCUM", "no units")
PIXELS: Final[Concept] = ("{pixels}", "UCUM", "pixels")
"""An annotation in braces has the unit 1 in UCUM: a count, said to be one of pixels."""

ALL_CONCEPTS: Final[tuple[Concept, ...]] = (
    LUNG,
    HEART,
    CLAVICLE,
    CHEST,
    ENTIRE_BODY,
    *_LESIONS,
    ANATOMICAL_STRUCTURE,
    MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
    SPATIAL_AND_RELATIONAL_CONCEPT,
    INDETERMINATE,
    ARTIFICIAL_INTELLIGENCE,
    PROCESSING_EQUIPMENT,
    SOURCE_IMAGE,
    IMAGING_PROCEDURE,
    AREA,
    WIDTH,
    EQUIVALENT_MEANING,
    MINIMUM,
    MAXIMUM,
    SQUARE_MILLIMETER,
    MILLIMETER,
    PERCENT,
    RATIO,
    NO_UNITS,
)

ABSTAIN_SEGMENT: Final = Structure(label="Abstain", code=INDETERMINATE, rgb=(240, 228, 66))
"""What "not certified" is called, coded and coloured. No standard code for abstention was found; PS3.16 CID 7150
offers the category, and "Indeterminate" says that the answer is open rather than negative."""

_CODE_MEANING: Final = 64

PRIVATE_SCHEME: Final = "99CERTDICOM"
"""Coding scheme of what no standard has a code for. PS3.3 (8.2) reserves designators that begin with 99."""

PRIVATE_SCHEME_NAME: Final = "certdicom private concepts"

_AT_LEAST, _AT_MOST = "at least", "at most"


def area_bounds(structure: Structure) -> tuple[Concept, Concept]:
    """Names of the lower and the upper bound of a structure's area: "Heart area at least", "Heart area at most".

    Viewers show a measurement's name alone, and two lines "Area" would not say of what they are, nor which bound is which. The
    codes end in a digest of the structure's code and label, so that no two structures share one.
    """
    name = structure.label[:1].upper() + structure.label[1:]
    digest = hashlib.sha256("\\".join((*structure.code[:2], structure.label)).encode()).hexdigest()[:5]
    lower, upper = (f"{name[: _CODE_MEANING - 17]} area {end}" for end in (_AT_LEAST, _AT_MOST))
    return (f"area-lower-{digest}", PRIVATE_SCHEME, lower), (f"area-upper-{digest}", PRIVATE_SCHEME, upper)


def abstained_area(label: str) -> Concept:
    """The area of an Abstain segment by its label."""
    return ("abstained-area", PRIVATE_SCHEME, f"{label[: _CODE_MEANING - 5]} area")


def saying_zero(concept: Concept) -> Concept:
    """The concept of a measurement of 0, which says so itself: OHIF prints no number for it."""
    value, scheme, meaning = concept
    return value, scheme, f"{meaning[: _CODE_MEANING - 2]} 0"


HEART_WIDTH_BOUNDS: Final[tuple[Concept, Concept]] = (
    ("heart-w-lower", PRIVATE_SCHEME, f"Heart width {_AT_LEAST}"),
    ("heart-w-upper", PRIVATE_SCHEME, f"Heart width {_AT_MOST}"),
)
THORAX_WIDTH_BOUNDS: Final[tuple[Concept, Concept]] = (
    ("thorax-w-lower", PRIVATE_SCHEME, f"Thorax width {_AT_LEAST}"),
    ("thorax-w-upper", PRIVATE_SCHEME, f"Thorax width {_AT_MOST}"),
)
CTR_BOUNDS: Final[tuple[Concept, Concept]] = (
    ("ctr-lower", PRIVATE_SCHEME, f"Cardiothoracic ratio {_AT_LEAST}"),
    ("ctr-upper", PRIVATE_SCHEME, f"Cardiothoracic ratio {_AT_MOST}"),
)
"""Names of lower and upper bounds."""

ABSTAINED_SHARE: Final[Concept] = ("abstained-share", PRIVATE_SCHEME, "Abstained share of the image")
CERTIFIED_RADIUS: Final[Concept] = ("certified-radius", PRIVATE_SCHEME, "Certified L2 radius")
PRIVATE_CONCEPTS: Final = (
    *HEART_WIDTH_BOUNDS,
    *THORAX_WIDTH_BOUNDS,
    *CTR_BOUNDS,
    ABSTAINED_SHARE,
    CERTIFIED_RADIUS,
)
