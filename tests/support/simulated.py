"""What the tests of the simulation stage share: a ventricle with fibres, and runs of it."""

from dataclasses import replace

import numpy as np

from cardiocohort.mechanics.settings import Mechanics
from cardiocohort.mesh import storage
from cardiocohort.mesh.model import Microstructure
from cardiocohort.runtime import artifacts, batch_runner
from cardiocohort.simulation import subject
from cardiocohort.simulation.continuation import inflate
from cardiocohort.simulation.settings import SimulationSettings
from cardiocohort.simulation.subject import state_heart
from small_meshes import truncated_ellipsoid

# directions that no rule has made are those of the tetrahedra
ELEMENTS = SimulationSettings(fibres="elements")


def ventricle(shape=(3, 9, 16)):
    """A left ventricle with circumferential fibres, sheets along the radius from the axis."""
    model = truncated_ellipsoid(shape=shape, apex_deg=3)
    axes = []
    for places in (model.points_mm[model.tets].mean(axis=1), model.points_mm):
        radial = places * [1, 1, 0] / np.linalg.norm(places[:, :2], axis=1)[:, None]
        axial = np.tile([0.0, 0.0, 1.0], (len(places), 1))
        axes += [np.cross(axial, radial), radial, axial]
    return replace(model, microstructure=Microstructure(*axes))


def run(model, mechanics=None, settings=None):
    """The problem at its last good state, its order of tets, how it ended, and all converged steps."""
    settings = settings or ELEMENTS
    stated, order, _ = state_heart(model, mechanics or Mechanics(), settings)
    steps = []
    ended = inflate(stated, settings, steps.append)
    return stated, order, ended, steps


def listed(path):
    return str(path), path.stat().st_size, artifacts.sha256(path)


def mesh_row(model, folder, name="s"):
    """The row of the mesh table of a subject whose files are written into the folder."""
    storage.write_volume(folder / "s.vtu", model)
    storage.write_surface(folder / "s.surface.vtp", model)
    row = {"subject": name}
    for part, file in (("", "s.vtu"), ("surface_", "s.surface.vtp")):
        values = (file, *listed(folder / file)[1:])
        row |= dict(zip([f"{part}file", f"{part}size", f"{part}sha256"], values, strict=True))
    return row


def simulate(model, folder, mechanics, settings=None):
    """The record of one subject, as the rule's script makes it."""
    row = mesh_row(model, folder)
    task = subject.task(row, folder, mechanics, settings or ELEMENTS, 1, "inputs")
    (record,) = batch_runner.run_batch(folder / "out", [task], subject.simulate_subject)
    return record
