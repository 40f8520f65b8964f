"""How well a checkpoint reads photos whose truth is known."""
