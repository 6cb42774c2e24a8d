"""Bundles that certdicom finds by name: a folder each, with networks, description and model card."""
