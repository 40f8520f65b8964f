"""One static partition per mission, from the packaged table and the user's file; data sets come and go."""

import os
from typing import Final

import dagster as dg

from stage_a_pipeline.missions import MissionTable, load_missions
from stage_a_pipeline.settings import load_settings

SETTINGS_AT_LOAD: Final = load_settings(environ=os.environ)
"""Settings as they were when this code location was loaded: they decide partitions and executor."""

MISSIONS: Final[MissionTable] = load_missions(SETTINGS_AT_LOAD.discovery.missions_file)
mission_partitions: Final = dg.StaticPartitionsDefinition(list(MISSIONS))

DATA_SETS: Final = "data_sets"
data_set_partitions: Final = dg.DynamicPartitionsDefinition(name=DATA_SETS)
"""One per data set of the reassembly. The sensor `new_data_sets` and `stage-a data-sets` add them."""
