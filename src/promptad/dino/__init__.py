"""DINOv2: an image tower without words, for the memory of good photos."""
