"""From images with masks to a bundle."""
