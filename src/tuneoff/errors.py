"""The two ways in which a run ends early without being a bug."""


class UserError(Exception):
    """A mistake in what was asked for. The message is one sentence: what is wrong, where, and the way out.

    The command line prints it without a traceback and exits with code 2.
    """


class RunFailure(Exception):
    """Something that went wrong while working (no traceback is of use to the user). Exit code 1."""
