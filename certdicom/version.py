"""The version, and what must be said wherever it is named."""

VERSION = "0.1.0"

RESEARCH_USE = "Research use only, not a medical device."
