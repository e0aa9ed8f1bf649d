"""From a reference population to the target moments of every subject. Owned by the population stage."""
