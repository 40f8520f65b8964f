"""The photos of a run on the hosts of a Ray cluster: the same workers, with actors in between."""
