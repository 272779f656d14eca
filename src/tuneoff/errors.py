"""The two ways in which a command ends early without a bug."""


class UserError(Exception):
    """A mistake in what was asked for. The message is one sentence: what is wrong, where, and the way out.

    The command line prints it without a traceback and exits with code 2.
    """


class RunFailure(Exception):
    """Something that went wrong during the work, where a traceback would not help the user. Exit code 1."""
