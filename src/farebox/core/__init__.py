"""Frozen values and the seams between the rooms; standard library only, no I/O."""
