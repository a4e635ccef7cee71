"""Nothing in the repository cites a file that is not in it."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOMS = ("drc_jax", "configs", "experiments", "tests", "docs")
# This test, and what opens the fixtures that lie beside some checkouts.
READS_SHARED = {"tests/docs/test_citations.py", "tests/conftest.py"}


def test_nothing_cites_what_is_not_in_the_repository() -> None:
    sources = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    sources += [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    cited = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources
        if str(path.relative_to(ROOT)) not in READS_SHARED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"\bSPEC\b|\bHOUSE\b|\.\./shared", line)
    ]
    assert len(sources) > 100 and not cited, "\n".join(cited)
