"""Metrics of anomaly detection: pure functions on arrays and one accumulator over a test set (no torch).

``ranking`` holds AUROC, average precision and F1-max, ``aupro`` the per-region overlap, ``accumulator``
collects photos one by one and computes them all. Larger score = more anomalous, everywhere.
"""
