"""Errors that a user can fix: one clear message, no traceback."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADVICE = {
    errno.ENOSPC: "free some space there, then run the same command again",
    errno.EDQUOT: "free some of your quota there, then run the same command again",
    errno.EROFS: "work on a disk that can be written",
    errno.EACCES: "allow your user to read and write it",
    errno.EPERM: "allow your user to read and write it",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


class UserError(Exception):
    """Something in the data, the params or the call is wrong.

    Args:
        problems: one message a problem, each saying where (file, line, face or key), what is wrong and what to do.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def explain(error: OSError) -> str:
    """Tell in one message which file the operating system refused, why, and what to do."""
    where = f"{error.filename}: " if error.filename else ""
    advice = ADVICE.get(error.errno or 0, "look at the disk and at the path, then run the same command again")
    return f"{where}{error.strerror or error}; {advice}"


@contextmanager
def artefact(path: Path, what_to_do: str) -> Iterator[None]:
    """Turn whatever reading a file that a stage wrote raises into a UserError that names it and says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a broken file raises whatever its bytes make of it
        reason = " ".join(f"{error}".split())[:200] or type(error).__name__
        raise UserError(f"{path}: not what was written there ({reason}); {what_to_do}") from None
