"""Dagster's side of the house: assets, checks, resources. Assets call pure functions and report."""

import warnings

import dagster as dg

# Data versions (beta) and partitioned checks (preview) are used on purpose, pinned by constraints and
# tests; their warnings would greet every user of the command line.
for category in (dg.BetaWarning, dg.PreviewWarning):
    warnings.filterwarnings("ignore", category=category, module=r"stage_a_pipeline|dagster")
