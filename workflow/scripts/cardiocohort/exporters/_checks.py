"""How far each deck was checked, stated once: for the READMEs and the table of docs/solvers.md.

Owned by the inputs stage. `python -m cardiocohort.exporters._checks` prints the table. The tests that run a
solver hold these figures against what they find.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One format: readers of other projects, the solver run with its version, and how far they agree.

    run: who ran what, empty if only the format's rules were read; agreement: with the solver of `simulate`.
    tolerance: for the volumes that a README states. time: of a run, as measured.
    """

    read_by: str
    run: str = ""
    version: str = ""
    agreement: str = ""
    tolerance: str = ""
    time: str = ""


CHECKS = {
    "vtu": Check("meshio, PyVista"),
    "surfaces": Check("PyVista"),
    "opencarp": Check("a reader of the manual's format"),
    "febio": Check(
        "a reader after FEBio 4.11's source, rules of it one by one, pyfebio 0.3.0 in part",
        tolerance="not known, FEBio was not run; ten-node elements with displacements alone (CalculiX)\n"
        "changed volumes 0.7 to 1.2 % less than those of `simulate`",
    ),
    "svmultiphysics": Check(
        "PyVista, meshio, rules of the reader in the source of July 2026, one by one",
        "by hand, neo_hooke, an earlier form of the deck",
        "built from source with Debian's VTK and MPI",
        "coarse mesh: 90 % (LV) and 73 to 76 % (RV) of the volume change",
        tolerance="none; four-node elements reached 73 to 90 % of the volume change on a coarse mesh",
    ),
    "fenicsx": Check(
        "DOLFINx, cardiac-geometriesx",
        "tests (`long`), 1 and 2 processes",
        "DOLFINx 0.11, fenicsx-pulse 0.12, cardiac-geometriesx 0.16",
        "holzapfel_ogden, pressure-volume curve within 1 % (0.03 % found)",
        tolerance="1 % of each volume",
    ),
    "calculix": Check(
        "meshio, a reader of the manual's cards",
        "tests, neo_hooke",
        "CalculiX 2.20",
        "largest displacement within 5 %; by hand, volume changes within 1.2 %",
        tolerance="3 % of each volume's change",
        time="99 s for the heart of docs/tutorial.md (ten nodes, one thread)",
    ),
}


def checked(name: str) -> str:
    """The README's paragraph."""
    check = CHECKS[name]
    run = (
        f"Run: {check.run}.\nVersion: {check.version}.\nAgreement with `simulate`: {check.agreement}.\n"
        if check.run
        else "Not run by its solver: its rules were read in the manual or source, and tested one by one.\n"
    )
    time = f"Time of a run: {check.time or 'not measured'}.\n" if check.tolerance else ""
    return f"Read back with: {check.read_by}.\n{run}{time}"


def table() -> str:
    """The table in Markdown."""
    rows = [("format", "read by", "run by", "version", "agreement with `simulate`"), ("---",) * 5]
    rows += [
        (f"`{name}`", check.read_by, check.run or "not run", check.version, check.agreement)
        for name, check in CHECKS.items()
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    print(table(), end="")
