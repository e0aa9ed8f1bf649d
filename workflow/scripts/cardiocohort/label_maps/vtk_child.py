"""VTK's readers in a process apart: `python vtk_child.py mesh out.npz`. Owned by the segmentations stage.

VTK ends its process at some damaged files. For others it reports a fault and returns what it read so far.
out.npz: points (N, 3), types, offsets and nodes of the cells, and the cell arrays of one component, with
`array:` before their names. Exit status REFUSED: VTK reported a fault, or there is no unstructured grid.
"""

import resource
import sys
from pathlib import Path

import numpy as np

REFUSED = 3
BASE_BYTES, BYTES_PER_BYTE = (
    1_500_000_000,
    60,
)  # address space: of the libraries, and for each byte of the file


def main(source: str, target: str) -> None:
    from vtkmodules.util.numpy_support import vtk_to_numpy  # not where the parent imports this module
    from vtkmodules.vtkCommonCore import vtkOutputWindow, vtkStringOutputWindow
    from vtkmodules.vtkIOLegacy import vtkUnstructuredGridReader
    from vtkmodules.vtkIOXML import vtkXMLUnstructuredGridReader

    limit = BASE_BYTES + BYTES_PER_BYTE * Path(source).stat().st_size
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:  # a site may allow less
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    with open(source, "rb") as handle:
        xml = handle.read(64).lstrip()[:1] == b"<"
    reader = vtkXMLUnstructuredGridReader() if xml else vtkUnstructuredGridReader()
    if not xml:
        reader.ReadAllScalarsOn()
        reader.ReadAllVectorsOn()
        reader.ReadAllFieldsOn()
    said = vtkStringOutputWindow()
    vtkOutputWindow.SetInstance(said)
    reader.SetFileName(source)
    reader.Update()
    grid = reader.GetOutput()
    if said.GetOutput() or grid is None or not grid.GetNumberOfCells() or not grid.GetNumberOfPoints():
        sys.exit(REFUSED)
    data = grid.GetCellData()
    arrays = [data.GetArray(k) for k in range(data.GetNumberOfArrays())]
    np.savez(
        target,
        points=vtk_to_numpy(grid.GetPoints().GetData()),
        types=vtk_to_numpy(grid.GetCellTypes()),
        offsets=vtk_to_numpy(grid.GetCells().GetOffsetsArray()),
        nodes=vtk_to_numpy(grid.GetCells().GetConnectivityArray()),
        **{f"array:{a.GetName()}": vtk_to_numpy(a) for a in arrays if a and a.GetNumberOfComponents() == 1},
    )


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except MemoryError:
        sys.exit(REFUSED)
