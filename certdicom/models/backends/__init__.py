"""What runs a bundle's networks, behind the sampler's port (`certification.sampling.BaseSegmenter`)."""
