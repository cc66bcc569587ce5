"""Thresholds from good photos."""
