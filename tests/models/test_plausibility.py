"""Pictures that are no chest are refused by default; chests are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from certdicom import ImageRefusedError, SmoothingParameters, load_bundle, read_radiograph
from certdicom.imaging.grid import to_grid
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.models.backends.torch import load_network
from certdicom.models.plausibility import AnatomyModel, measure
from certdicom.pipeline import Certifier


def drawn_chest() -> np.ndarray:
    masks = np.zeros((3, 100, 100), bool)
    masks[0, 20:80, 15:40] = masks[0, 22:78, 58:85] = True
    masks[1, 50:80, 42:62] = True
    masks[2, 22:26, 15:40] = masks[2, 22:26, 58:85] = True
    return masks


def test_measurements_of_a_drawn_chest() -> None:
    values = measure(drawn_chest(), np.full((100, 100), 0.5, np.float32))
    assert values["lung_area"] == pytest.approx((60 * 25 + 56 * 27) / 1e4)
    assert values["lung_balance"] == pytest.approx(60 * 25 / (56 * 27))
    assert values["lung_rest"] == pytest.approx(0)
    assert values["heart_over_lung"] == pytest.approx(0)
    assert 0.4 < values["heart_column"] < 0.6


def test_judging_names_what_is_wrong_and_missing() -> None:
    model = AnatomyModel({"lung_area": (0.2, 0.4), "clavicle_row": (0.0, 0.2)})
    masks = drawn_chest()
    image = np.full((100, 100), 0.5, np.float32)
    assert model.judge(masks, image).plausible
    masks[2] = False
    judgement = model.judge(masks, image)
    assert not judgement.plausible
    assert "clavicles' vertical position" in judgement.objections[0]
    assert not model.judge(np.zeros_like(masks), image).plausible


@pytest.mark.parametrize("picture", ["noise", "flat", "checks", "sideways chest"])
def test_the_shipped_bundle_refuses_what_is_no_chest(picture: str) -> None:
    bundle = load_bundle()
    assert bundle.anatomy is not None
    random = np.random.default_rng(0)
    chest = to_grid(read_radiograph(film_bytes(synthetic_film(rows=512, columns=512)[0])), 256).u
    pictures = {
        "noise": random.random((1, 256, 256), np.float32),
        "flat": np.full((1, 256, 256), 0.5, np.float32),
        "checks": np.kron(np.indices((16, 16)).sum(0) % 2, np.ones((16, 16))).astype(np.float32)[None],
        "sideways chest": np.rot90(chest, axes=(1, 2)).copy(),
    }
    u = pictures[picture]
    with torch.inference_mode():
        found = (load_network(bundle, "segmenter")(torch.from_numpy(u.astype(np.float32))[None])[0] > 0).numpy()
    assert not bundle.anatomy.judge(found, u[0]).plausible


def test_the_refusal_comes_after_the_selection_and_can_be_waived() -> None:
    dataset, _ = synthetic_film(rows=256, columns=256)
    stored = np.random.default_rng(0).integers(0, 4096, (256, 256), dtype=np.uint16)
    dataset.PixelData = stored.tobytes()
    film = read_radiograph(film_bytes(dataset))
    certifier = Certifier(load_bundle(), SmoothingParameters(n0=2, n=67))
    seen = []
    with pytest.raises(ImageRefusedError, match="does not look like a frontal chest film"):
        certifier.certify(film, progress=lambda done, _: seen.append(done))
    assert max(seen) == 2, "no draw of the long count was spent"
