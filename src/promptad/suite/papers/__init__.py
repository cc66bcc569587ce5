"""The papers' tables and figures as benchmarks: what each one measures, on what, and how its numbers were printed."""
