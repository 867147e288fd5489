"""Compares a table of dead letters with the bad records of a topic: which records, and their bytes.

Used by the readers of single jobs.
"""

import os

from rows import read_duckdb, read_pyarrow

EXAMPLES = 3


def difference(folder, bad):
    """{"missing", "extra", "examples"} over both plain readers. bad: (topic, partition, offset, value) of each bad record."""
    wanted = sorted(bad)
    report = {"missing": 0, "extra": 0, "examples": {}}
    for name, read in (("duckdb", read_duckdb), ("pyarrow", read_pyarrow)):
        found = read(folder) if os.path.isdir(folder) else []
        found = sorted((row["topic"], row["partition"], row["offset"], bytes(row["value"])) for row in found)
        missing, extra = set(wanted) - set(found), set(found) - set(wanted)
        report["missing"] += len(missing)
        # One that is there twice is one too many.
        report["extra"] += len(extra) + len(found) - len(set(found))
        if missing or extra:
            examples = sorted(missing)[:EXAMPLES], sorted(extra)[:EXAMPLES]
            report["examples"][name] = [[repr(letter) for letter in letters] for letters in examples]
    return report
