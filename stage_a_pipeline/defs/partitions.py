"""One static partition per mission, from the packaged table and the user's file."""

import os
from typing import Final

import dagster as dg

from stage_a_pipeline.missions import MissionTable, load_missions
from stage_a_pipeline.settings import load_settings

SETTINGS_AT_LOAD: Final = load_settings(environ=os.environ)
"""Settings as they were when this code location was loaded: they decide partitions and executor."""

MISSIONS: Final[MissionTable] = load_missions(SETTINGS_AT_LOAD.discovery.missions_file)
mission_partitions: Final = dg.StaticPartitionsDefinition(list(MISSIONS))
