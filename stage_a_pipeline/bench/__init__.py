"""Benchmarks: each measures a claim against its baseline, in one run, on one machine."""
