"""Stage-A: photos of base-station installations to one summary per photo, as a Dagster pipeline."""

from importlib.metadata import version

__version__ = version("stage-a-pipeline")
