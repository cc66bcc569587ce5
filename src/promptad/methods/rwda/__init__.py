"""RWDA (BMVC 2023)."""
