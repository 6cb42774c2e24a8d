"""Images with reference masks, in the layouts in which their authors publish them."""
