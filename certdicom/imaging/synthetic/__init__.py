"""Synthetic chest films: for tests, for trying certdicom out, and for its self-test. They show no patient.

dataset, masks = synthetic_film(modality="DX", bits_stored=12, seed=3)
write_film(dataset, path)
"""

from certdicom.imaging.synthetic.encoding import ENCODINGS, compress, film_bytes, write_film
from certdicom.imaging.synthetic.objects import synthetic_film
from certdicom.imaging.synthetic.phantom import Phantom, chest_phantom

__all__ = ["ENCODINGS", "Phantom", "chest_phantom", "compress", "film_bytes", "synthetic_film", "write_film"]
