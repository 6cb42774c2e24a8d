"""Synthetic films to try certdicom with."""
