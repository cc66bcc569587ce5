"""Whole benchmarks: methods on many data sets, trainings included, over several processes, and the papers' tables and figures."""
