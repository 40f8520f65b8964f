"""Overlapping complex patches at sub-pixel scan positions to one object, in bounded memory."""

from stage_a_pipeline.reassembly.accumulator import Accumulator, Reassembly
from stage_a_pipeline.reassembly.geometry import Anchor, Plan, plan
from stage_a_pipeline.reassembly.stitching import reassemble_position

__all__ = ["Accumulator", "Anchor", "Plan", "Reassembly", "plan", "reassemble_position"]
