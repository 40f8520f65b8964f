"""Two runs over the same missions: what changed between them, and what came of it."""
