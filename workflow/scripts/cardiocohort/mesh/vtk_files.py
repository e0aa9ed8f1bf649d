"""Writing VTK's XML files through memory. Owned by no stage; under meshes, decks and simulations.

Where the disk is full, VTK's own writers end the whole process or say nothing. What is whole in memory is
written by Python, which reports it.
"""

from pathlib import Path

import pyvista
from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter, vtkXMLUnstructuredGridWriter

from ..runtime.artifacts import atomic_path

WRITERS = {".vtu": vtkXMLUnstructuredGridWriter, ".vtp": vtkXMLPolyDataWriter}
COMPRESSION_LEVEL = 1  # of zlib; 5 takes nearly twice the time for files 1.5 % smaller


def write_dataset(path: str | Path, data: pyvista.DataSet) -> None:
    """Write an unstructured grid as `.vtu` or a surface as `.vtp`, atomically; OSError if it cannot be."""
    path = Path(path)
    writer = WRITERS[path.suffix]()
    writer.SetInputData(data)
    # raw bytes behind the header: three quarters of what base64 takes
    writer.SetDataModeToAppended()
    writer.SetEncodeAppendedData(False)
    writer.SetCompressionLevel(COMPRESSION_LEVEL)
    writer.SetWriteToOutputString(True)
    if not writer.Write():
        raise OSError(f"{path}: VTK could not make the file's content")
    content = writer.GetOutputString()  # bytes, or a string if they happen to be text
    with atomic_path(path) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
