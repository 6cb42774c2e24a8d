"""Whether an image and a bundle go together: gray or colour, chest or something else, and a plausible picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from certdicom.errors import ImageRefusedError
from certdicom.models.bundle import Bundle, load_bundle, shipped_bundles

if TYPE_CHECKING:
    from certdicom.imaging.image import SourceImage

_ANYWAY = "; --accept-any certifies it all the same"


def is_for_chests(bundle: Bundle) -> bool:
    """Whether the bundle segments chest films: it judges their anatomy, or one of its structures is of the chest."""
    from certdicom.imaging.acceptance import is_of_chest  # here, because it loads pydicom

    return bundle.anatomy is not None or any(map(is_of_chest, bundle.structures))


def takes_photographs(bundle: Bundle) -> bool:
    """Whether the bundle is for colour photographs: three channels, and not for chest films repeated to them."""
    return bundle.channels == 3 and not is_for_chests(bundle)


def require_suitable(image: SourceImage, bundle: Bundle, *, accept_any: bool) -> None:
    """ImageRefusedError unless the bundle takes such an image, and results can refer to it.

    `accept_any` waives what the bundle was made for, and neither that a gray network cannot take colours nor that a result needs
    something to refer to.
    """
    from certdicom.imaging.acceptance import require_referable  # here, because it loads pydicom

    require_referable(image.dataset)
    if image.channels > 1 and image.channels != bundle.channels:
        taken = "gray films" if bundle.channels == 1 else f"images of {bundle.channels} channels"
        raise ImageRefusedError(f"the image is a colour photograph and bundle {bundle.name} takes {taken}: {_for_photographs()}")
    if accept_any:
        return
    if image.channels == 1 and takes_photographs(bundle):
        labels = ", ".join(structure.label for structure in bundle.structures)
        raise ImageRefusedError(f"the image is gray and bundle {bundle.name} ({labels}) is for colour photographs{_ANYWAY}")
    if image.channels == 3 and not takes_photographs(bundle):
        raise ImageRefusedError(f"the image is a colour photograph and bundle {bundle.name} is for chest films: {_for_photographs()}")


def _for_photographs() -> str:
    """What to do about a photograph: the shipped bundles that take one."""
    shipped = [bundle for bundle in map(load_bundle, shipped_bundles()) if takes_photographs(bundle)]
    if not shipped:
        return "choose a bundle for colour photographs; none is shipped, so give the folder of one"
    named = (f"{bundle.name} ({', '.join(structure.label for structure in bundle.structures)})" for bundle in shipped)
    return f"choose a bundle for colour photographs; shipped are {', '.join(named)}"


def notes_for(image: SourceImage, bundle: Bundle) -> tuple[str, ...]:
    """What a reader of a certificate of this image by this bundle should know of the bundle."""
    repeated = bundle.channels // image.channels
    if repeated == 1:
        return bundle.notes
    return (
        *bundle.notes,
        f"the gray film was repeated to {repeated} channels with independent noise: for changes of the film the radius on the grid is "
        f"1/√{repeated} of the one stated; the native radius accounts for it",
    )


def judge_picture(selected: NDArray[np.bool_], image: NDArray[np.float32], bundle: Bundle, *, accept_any: bool) -> tuple[str, ...]:
    """What is unusual about the structures that were selected; ImageRefusedError when it cannot be a chest film and not `accept_any`.

    `selected` bool (structures, H, W), `image` (H, W) in [0, 1]. A bundle that knows no anatomy judges nothing.
    """
    if bundle.anatomy is None:
        return ()
    judgement = bundle.anatomy.judge(selected, image)
    if not judgement.plausible and not accept_any:
        reasons = "; ".join(judgement.objections[:2])
        raise ImageRefusedError(f"the picture does not look like a frontal chest film: {reasons}{_ANYWAY}")
    return tuple(f"unusual picture: {objection}" for objection in judgement.objections)
