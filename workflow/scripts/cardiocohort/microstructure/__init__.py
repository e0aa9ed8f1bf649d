"""Fibres, coordinates and segments on a biventricular mesh. Owned by the meshing stage."""

from .coordinates import add_coordinates
from .fibres import FibreAngles, add_fibres
from .thickness import segment_thickness

__all__ = ["FibreAngles", "add_coordinates", "add_fibres", "segment_thickness"]
