"""One HTML page that needs no other file: its pictures are part of the text."""

import base64
import html
from collections.abc import Iterable, Mapping

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #222; --paper: #fff; --line: #ccc; --pale: #f3f3f3; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #ddd; --paper: #16181b; --line: #444; --pale: #22252a; }}
}}
body {{ font: 16px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 2em auto; max-width: 96em; padding: 0 clamp(.8em, 3vw, 1.5em); }}
h1, h2, h3 {{ line-height: 1.2; overflow-wrap: anywhere; }}
p, li {{ max-width: 50em; overflow-wrap: anywhere; }}
.scroll {{ overflow-x: auto; margin: 1em 0; }}
table {{ border-collapse: collapse; font-size: .94em; font-variant-numeric: tabular-nums; }}
th, td {{ border-bottom: 1px solid var(--line); padding: .3em .6em; text-align: right;
  white-space: nowrap; background: var(--paper); }}
th {{ background: var(--pale); }}
th:first-child, td:first-child {{ text-align: left; position: sticky; left: 0; }}
figure {{ margin: 1em 0; }}
figcaption {{ max-width: 50em; margin-bottom: .5em; }}
img {{ display: block; border-radius: 4px; }}
@media (min-width: 60em) {{ .scroll img {{ max-width: 100%; height: auto; }} }}
.row {{ display: grid; grid-auto-flow: column; grid-auto-columns: minmax(17em, 1fr); gap: 1.5em;
  overflow-x: auto; margin: 1em 0; }}
.row figure, .row .scroll {{ margin: 0; }}
.row img {{ max-width: 100%; height: auto; }}
dt {{ font-weight: 600; margin-top: .6em; }}
dd {{ margin-left: 1.5em; max-width: 48em; }}
@media (max-width: 40em) {{ th:first-child, td:first-child {{ min-width: 8.5em; max-width: 9em;
  white-space: normal; overflow-wrap: anywhere; }} }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(title: str, body: Iterable[str]) -> str:
    """A page for light and dark screens, wide and narrow.

    Args:
      title: plain text.
      body: pieces of HTML, in which all that others have named is escaped.
    """
    return _PAGE.format(title=html.escape(title), body="\n".join(body))


def table(rows: Iterable[Iterable[str]]) -> str:
    """A table of plain texts, the heading first; it scrolls where it is too wide."""
    lines = []
    for i, row in enumerate(rows):
        tag = "td" if i else "th"
        cells = (f"<{tag}>{html.escape(text)}</{tag}>" for text in row)
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def heading(text: str, level: int = 2) -> str:
    """A heading of plain text."""
    return f"<h{level}>{html.escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def terms(meanings: Mapping[str, str]) -> str:
    """A list of words and what they mean, plain texts."""
    items = (
        f"<dt>{html.escape(word)}</dt><dd>{html.escape(text)}</dd>"
        for word, text in meanings.items()
    )
    return "<dl>\n" + "\n".join(items) + "\n</dl>"


def figure(png: bytes, caption: str) -> str:
    """A picture and a caption of plain text; on a narrow screen it scrolls at its own size."""
    text, data = html.escape(caption), base64.b64encode(png).decode()
    return (
        f"<figure><figcaption>{text}</figcaption>"
        f'<div class="scroll" tabindex="0"><img alt="{text}" src="data:image/png;base64,{data}">'
        "</div></figure>"
    )


def row(figures: Iterable[str]) -> str:
    """Figures side by side, of equal width; it scrolls where it is too wide."""
    return '<div class="row">\n' + "\n".join(figures) + "\n</div>"
