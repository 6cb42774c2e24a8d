"""Coded concepts, each as (value, coding scheme, meaning), and the one segment that is not anatomy: Abstain.

Values and meanings follow PS3.16; the tests look each of them up in pydicom's dictionaries.
"""

from __future__ import annotations

from typing import Final

from certdicom.certification.certificate import Structure

Concept = tuple[str, str, str]

LUNG: Final[Concept] = ("39607008", "SCT", "Lung")
HEART: Final[Concept] = ("80891009", "SCT", "Heart")
CLAVICLE: Final[Concept] = ("51299004", "SCT", "Clavicle")
CHEST: Final[Concept] = ("43799004", "SCT", "Chest cavity")

ANATOMICAL_STRUCTURE: Final[Concept] = ("91723000", "SCT", "Anatomical Structure")
SPATIAL_AND_RELATIONAL_CONCEPT: Final[Concept] = ("309825002", "SCT", "Spatial and Relational Concept")
INDETERMINATE: Final[Concept] = ("82334004", "SCT", "Indeterminate")

ARTIFICIAL_INTELLIGENCE: Final[Concept] = ("123110", "DCM", "Artificial Intelligence")
PROCESSING_EQUIPMENT: Final[Concept] = ("109102", "DCM", "Processing Equipment")

ALL_CONCEPTS: Final[tuple[Concept, ...]] = (
    LUNG,
    HEART,
    CLAVICLE,
    CHEST,
    ANATOMICAL_STRUCTURE,
    SPATIAL_AND_RELATIONAL_CONCEPT,
    INDETERMINATE,
    ARTIFICIAL_INTELLIGENCE,
    PROCESSING_EQUIPMENT,
)

ABSTAIN_SEGMENT: Final = Structure(label="Abstain", code=INDETERMINATE, rgb=(240, 228, 66))
"""What "not certified" is called, coded and coloured. No standard code for abstention was found; PS3.16 CID 7150
offers the category, and "Indeterminate" says that the answer is open rather than negative."""
