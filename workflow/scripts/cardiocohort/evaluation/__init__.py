"""Are hearts real, and as asked? Realism, control, coupling, topology (evaluation stage)."""
