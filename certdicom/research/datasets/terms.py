"""What the publishers of the known data sets ask of those who use them; for model cards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Terms:
    """Of one data set: its `title` with those to cite, and the `terms` in a line."""

    title: str
    terms: str


KNOWN = {
    "jsrt": Terms(
        "JSRT films (Shiraishi et al. 2000) with SCR masks (van Ginneken et al. 2006)",
        "research and education only, no redistribution of the images; cite both",
    ),
    "montgomery": Terms(
        "Montgomery County films (Jaeger et al. 2014)", "research; cite, and acknowledge the U.S. National Library of Medicine"
    ),
    "shenzhen": Terms(
        "Shenzhen films (Jaeger et al. 2014; masks Stirenko et al. 2018)",
        "research; cite, and acknowledge the U.S. National Library of Medicine and Shenzhen No. 3 People's Hospital",
    ),
    "isic": Terms(
        "ISIC 2018 task 1 dermatoscopy images (Codella et al. 2019; Tschandl et al. 2018)", "CC BY-NC 4.0: no commercial use; cite both"
    ),
    "cvc": Terms("CVC-ClinicDB colonoscopy frames (Bernal et al. 2015)", "research; cite"),
    "unlabelled_cxr": Terms(
        "1,267 frontal films without masks: NIH ChestX-ray14 (Wang et al. 2017), Hannover COVID-19 (Winther et al. 2020), Shenzhen",
        "NIH: no restriction, credit; Hannover: CC BY 3.0; Shenzhen: as above",
    ),
    "wingspan": Terms("Wingspan, cardiothoracic-ratio data of N. Dong", "MIT"),
}
"""By the beginning of the folder's name, in small letters."""


def terms_of(name: str) -> Terms | None:
    """The terms of the data set in a folder of that name; None for one that is not known."""
    return next((terms for beginning, terms in KNOWN.items() if name.lower().startswith(beginning)), None)
