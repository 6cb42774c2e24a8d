"""A whole hospital on one machine for an afternoon: a modality, the node, an archive and a viewer, all gone when it ends."""
