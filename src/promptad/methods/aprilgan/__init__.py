"""APRIL-GAN (VAND challenge at CVPR 2023)."""
