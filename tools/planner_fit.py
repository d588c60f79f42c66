"""Build the speed data that ships: the measured points with their day, and the conformal widths.

    python tools/planner_fit.py --points measured_public.csv     # rewrites allod/planner/data/measured.csv
    python tools/planner_fit.py                                   # recomputes speed_widths.json from it

The widths come from predictions of cells, engines, models and devices left out whole, so nothing that is
scored was fitted. Run both when points are added; a test holds the widths to the digest of the points.
"""

from __future__ import annotations

import argparse
import calendar
import csv
import datetime as dt
import io
import json
import re
import sys
from pathlib import Path

from allod.planner.speed import crossing, points

DATA = Path(__file__).resolve().parent.parent / "allod" / "planner" / "data"


def last_day(text: str) -> str:
    """Return the last past day that a year, a month or a span of months can mean, ISO 8601."""
    year, month = (*re.findall(r"(\d{4})(?:-(\d{2}))?", text)[-1],)
    at = int(month or 12)
    last = f"{year}-{at:02}-{calendar.monthrange(int(year), at)[1]:02}"
    return min(last, dt.datetime.now(dt.UTC).date().isoformat())


def convert(path: Path) -> str:
    """Return the table with the column ``as_of``; rows keep their order, ids and text."""
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    out = io.StringIO()
    writer = csv.DictWriter(out, [*rows[0], "as_of"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(row | {"as_of": last_day(row["date"])})
    return out.getvalue()


def main() -> int:
    """Rewrite the points where asked, then the widths."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--points", type=Path, help="a table with the columns of measured_public.csv")
    given = ask.parse_args()
    if given.points:
        (DATA / points.NAME).write_text(convert(given.points), "utf-8")
        points.points.cache_clear()
    held = crossing.all_widths(points.points())
    body = {"points_sha256": points.digest(), "as_of": points.newest().isoformat(), "heads": held}
    (DATA / "speed_widths.json").write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", "utf-8")
    print(f"{len(points.points())} points to {points.newest()}; widths of {', '.join(held)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
