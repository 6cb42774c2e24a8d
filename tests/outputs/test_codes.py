"""Every code that is written means what the DICOM dictionaries say it means."""

from __future__ import annotations

import pytest
from pydicom.sr import codedict
from pydicom.sr._concepts_dict import concepts

from certdicom.outputs import codes


@pytest.mark.parametrize("concept", codes.ALL_CONCEPTS, ids=lambda concept: concept[2])
def test_value_and_meaning_stand_together_in_the_dictionary(concept):
    value, scheme, meaning = concept
    known = {entry[value][0] for entry in concepts[scheme].values() if value in entry}
    assert meaning in known


@pytest.mark.parametrize(
    ("concept", "keyword"), [(codes.LUNG, "Lung"), (codes.HEART, "Heart"), (codes.CLAVICLE, "Clavicle"), (codes.CHEST, "ChestCavity")]
)
def test_anatomy_is_what_pydicom_calls_it(concept, keyword):
    entry = getattr(codedict.codes.SCT, keyword)
    assert (entry.value, entry.scheme_designator) == concept[:2]


def test_abstain_is_coded_as_indeterminate_and_not_as_anatomy():
    assert codes.ABSTAIN_SEGMENT.code == codes.INDETERMINATE
    assert codes.ABSTAIN_SEGMENT.code not in (codes.LUNG, codes.HEART, codes.CLAVICLE)


def test_private_concepts_say_that_they_are_private():
    assert all(scheme == codes.PRIVATE_SCHEME and scheme.startswith("99") for _, scheme, _ in codes.PRIVATE_CONCEPTS)
    assert all(len(value) <= 16 and len(meaning) <= 64 for value, _, meaning in codes.PRIVATE_CONCEPTS)
