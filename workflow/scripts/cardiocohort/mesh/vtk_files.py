"""Writing VTK's XML files through memory. Owned by no stage; under meshes, decks and simulations.

Where the disk is full, VTK's own writers end the whole process or say nothing. What is whole in memory is
written by Python, which reports it.
"""

from pathlib import Path

import pyvista
from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter, vtkXMLUnstructuredGridWriter

from ..runtime.artifacts import atomic_path

WRITERS = {".vtu": vtkXMLUnstructuredGridWriter, ".vtp": vtkXMLPolyDataWriter}
COMPRESSION_LEVEL = 4  # of zlib; 5 takes 1.6 times as long and saves 0.3 %


def write_dataset(path: str | Path, data: pyvista.DataSet) -> None:
    """Write an unstructured grid as `.vtu` or a surface as `.vtp`, atomically; OSError if it cannot be."""
    path = Path(path)
    writer = WRITERS[path.suffix]()
    writer.SetInputData(data)
    # base64 inside: of appended raw data, a quarter smaller, meshio 5.3.5 may mix up the arrays
    writer.SetDataModeToBinary()
    writer.SetCompressionLevel(COMPRESSION_LEVEL)
    writer.SetWriteToOutputString(True)
    if not writer.Write():
        raise OSError(f"{path}: VTK could not make the file's content")
    with atomic_path(path) as temporary:
        temporary.write_text(writer.GetOutputString(), encoding="utf-8")
