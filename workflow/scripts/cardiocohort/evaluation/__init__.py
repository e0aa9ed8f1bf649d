"""Realism, control, coupling and topology of a prior's samples (evaluation stage)."""
