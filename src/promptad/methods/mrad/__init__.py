"""MRAD (ICLR 2026)."""
