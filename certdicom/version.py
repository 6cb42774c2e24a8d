"""The version, and what must be said wherever it is named."""

VERSION = "0.2.0.dev0"

RESEARCH_USE = "Research use only, not a medical device."

METHOD_VERSION = 3
"""Raised when the same request may give other decisions or other written objects, and not otherwise: UIDs of results depend on it."""
