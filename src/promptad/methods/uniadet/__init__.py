"""UniADet (arXiv 2601.05552, 2026)."""
