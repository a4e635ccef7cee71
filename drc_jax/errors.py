"""The exceptions that mean: the caller can mend this."""


class UserError(ValueError):
    """A mistake in a config, a path or a data set that its owner can correct.

    The message is one sentence that names the offending value and what would be right. The
    programs in ``experiments/`` print it without a traceback and exit with status 2.
    """


class NonFiniteError(UserError):
    """Training or sampling produced numbers that are not finite; none of them can be used."""
