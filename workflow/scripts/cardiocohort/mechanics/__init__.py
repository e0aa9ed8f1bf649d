"""Passive mechanics: material, pressures, support of the base. Owned by the inputs stage."""
