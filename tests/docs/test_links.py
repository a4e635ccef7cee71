"""Links, commands and citations in the docs lead somewhere."""

import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOMS = ("drc_jax", "configs", "experiments", "tests", "docs")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[pathlib.Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def sources() -> Iterator[pathlib.Path]:
    yield from pages()
    for room in ROOMS:
        yield from (ROOT / room).rglob("*.py")


def anchors(page: pathlib.Path) -> set[str]:
    """The ids that GitHub and mkdocs give to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    words = [re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings]
    return {re.sub(r"\s+", "-", each) for each in words}


def test_links_lead_to_files_and_headings() -> None:
    followed = 0
    for page in pages():
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in LINK.findall(text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            found = page if not path else page.parent / path
            assert found.exists(), f"{page.relative_to(ROOT)} links to {target}"
            if anchor:
                assert anchor in anchors(found), f"{page.relative_to(ROOT)} links to {target}"
            followed += 1
    assert followed > 20


def test_commands_in_the_docs_name_files_that_exist() -> None:
    named = set()
    for page in pages():
        text = page.read_text()
        named |= set(re.findall(r"\b(configs/[\w/]+\.py)\b", text))
        named |= {
            name.replace(".", "/") + ".py" for name in re.findall(r"-m (experiments\.\w+)", text)
        }
    missing = [name for name in sorted(named) if "NAME" not in name and not (ROOT / name).exists()]
    assert named and not missing


def test_citations_of_the_method_name_sections_and_equations_that_exist() -> None:
    method = (ROOT / "docs" / "method.md").read_text()
    sections = set(re.findall(r"^## (\d) ", method, flags=re.MULTILINE))
    equations = set(re.findall(r"\\tag\{(\d\.\d+)\}", method))
    assert sections == set("123456789")
    for path in sources():
        if path.suffix == ".py":
            for cited in re.findall(r"docs/method\.md,? (?:section )?(\d)\b", path.read_text()):
                assert cited in sections, f"{path} cites section {cited}"
    for text in (method, (ROOT / "docs" / "figures" / "model.py").read_text()):
        for cited in re.findall(r"\(([1-9]\.\d+)\)", text):
            assert cited in equations, cited
