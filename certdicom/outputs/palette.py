"""Colours that people with any kind of colour vision tell apart (Okabe & Ito, Color Universal Design, 2008).

RGB, 0 to 255. Bundles take the colours of their structures from here, so that SEG, preview and report agree.
"""

from __future__ import annotations

from typing import Final

from certdicom.outputs.codes import ABSTAIN_SEGMENT

RGB = tuple[int, int, int]

ORANGE: Final[RGB] = (230, 159, 0)
SKY_BLUE: Final[RGB] = (86, 180, 233)
BLUISH_GREEN: Final[RGB] = (0, 158, 115)
YELLOW: Final[RGB] = (240, 228, 66)
BLUE: Final[RGB] = (0, 114, 178)
VERMILLION: Final[RGB] = (213, 94, 0)
REDDISH_PURPLE: Final[RGB] = (204, 121, 167)

LUNGS: Final[RGB] = SKY_BLUE
HEART: Final[RGB] = VERMILLION
CLAVICLES: Final[RGB] = BLUISH_GREEN
ABSTAIN: Final[RGB] = ABSTAIN_SEGMENT.rgb
"""Yellow, which no structure has; in pictures always hatched with black, so that it does not rest on colour alone."""

UNION_RGB: Final[tuple[RGB, ...]] = (REDDISH_PURPLE, ORANGE, BLUE)
"""Unions of structures, in the order in which they were asked for."""

RADIUS_RGB: Final[tuple[RGB, ...]] = ((60, 60, 190), (44, 127, 200), (65, 182, 196), (161, 218, 180))
"""Certified radii from small to large, the larger the lighter; none is like the yellow of abstention."""

STRUCTURE_RGB: Final[dict[str, RGB]] = {"lungs": LUNGS, "heart": HEART, "clavicles": CLAVICLES}
"""The chest bundle's structures by label."""
