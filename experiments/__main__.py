"""Lists the programs: `python -m experiments`."""

import ast
import pathlib
import sys

import drc_jax
from drc_jax.config.fields import nearest


def programs() -> dict[str, str]:
    """The programs of this folder by name, with the first line of what each says of itself."""
    found = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("[a-z]*.py")):
        source = path.read_text(encoding="utf-8")
        doc = ast.get_docstring(ast.parse(source))
        if doc and '\nif __name__ == "__main__":\n' in source:
            found[path.stem] = doc.splitlines()[0]
    return found


def main() -> int:
    """Prints the list; status 2 where a program's name follows, which needs a dot before it."""
    known = programs()
    wanted = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    if wanted is not None:
        hint = nearest(wanted, known)
        print(f"error: programs start as in `python -m experiments.train`{hint}", file=sys.stderr)
        return 2
    if "--version" in sys.argv[1:]:
        print(drc_jax.__version__)
        return 0
    print("python -m experiments.NAME --help explains a program:\n")
    width = max(map(len, known))
    for name, line in known.items():
        print(f"  {name:<{width}}  {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
