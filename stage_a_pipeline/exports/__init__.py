"""Delivered missions in the formats of other tools."""
