"""Programs kept by what they compute, for functions that are new at every call."""

import collections
import inspect
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

_PROGRAMS: collections.OrderedDict[str, Callable[..., Any]] = collections.OrderedDict()
_PROGRAMS_KEPT = 16
_LOCK = threading.Lock()
_JITTED = type(jax.jit(lambda: None))


def compiled_once(run: Callable[..., Any], *arguments: Any) -> Any:
    """``run(*arguments)``, compiled once for all functions that trace to the same program.

    ``jit`` would key its cache by ``run`` itself, which is new at every call, and keep what it
    closes over. Here the program's text is the key, and what is closed over an argument. A program
    that its text does not determine is compiled for this call and not kept.
    """
    closed, shapes = jax.make_jaxpr(run, return_shape=True)(*arguments)
    jaxpr = closed.jaxpr
    text = str(jaxpr)
    with _LOCK:
        program = _PROGRAMS.pop(text, None)
        if program is None:
            program = jax.jit(lambda consts, leaves: jax.core.eval_jaxpr(jaxpr, consts, *leaves))
        # An address stands for a function, as of a callback.
        if " at 0x" not in text and not _hides_arrays(jaxpr):
            _PROGRAMS[text] = program
        while len(_PROGRAMS) > _PROGRAMS_KEPT:
            _PROGRAMS.popitem(last=False)
    leaves = program(closed.consts, jax.tree.leaves(arguments))
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def without_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """What ``jax.jit`` wrapped, which shows ``compiled_once`` what it closes over."""
    return inspect.unwrap(function, stop=lambda wrapped: not isinstance(wrapped, _JITTED))


def _hides_arrays(jaxpr: Jaxpr) -> bool:
    """Whether arrays that its text does not show lie inside, as in a ``jit`` over them."""
    parameters = [
        leaf for eqn in jaxpr.eqns for leaf in jax.tree.leaves(tuple(eqn.params.values()))
    ]
    return any(
        isinstance(leaf, np.ndarray | jax.Array)
        or (isinstance(leaf, ClosedJaxpr) and (leaf.consts or _hides_arrays(leaf.jaxpr)))
        or (isinstance(leaf, Jaxpr) and _hides_arrays(leaf))
        for leaf in parameters
    )
