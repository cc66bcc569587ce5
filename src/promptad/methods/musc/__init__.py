"""MuSc (ICLR 2024): photos of one product as the measure of each other."""
