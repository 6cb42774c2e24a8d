"""Scores of bundles on films with reference masks."""
