"""What the extras of the package bring: the base certifies on a processor, and each extra adds what it names."""

from __future__ import annotations

from typing import Final

EXTRAS: Final[dict[str, tuple[str, ...]]] = {
    "torch": ("torch", "diffusers", "matplotlib", "monai", "safetensors"),
    "node": (
        "cryptography",
        "dbos",
        "httpx",
        "jinja2",
        "prometheus_client",
        "psycopg",
        "pydantic_settings",
        "sqlalchemy",
        "starlette",
        "uvicorn",
    ),
    "int8": ("nncf",),
    "all": ("SimpleITK", "pyarrow"),
}
"""Extra → the modules that come with it alone."""


def how_to_get(module: str) -> str:
    """The command that installs a module of an extra. LookupError for a module that none brings."""
    extra = extra_with(module)
    if extra is None:
        raise LookupError(f"no extra brings {module}")
    return f"pip install 'certdicom[{extra}]'"


def extra_with(module: str) -> str | None:
    """The extra that brings a module; None where none does."""
    package = module.partition(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if package in modules), None)
