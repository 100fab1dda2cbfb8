"""Errors that a user can fix: one clear message, no traceback."""

import errno
import re
from collections import Counter
from collections.abc import Iterator, Sequence
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

LONG = 10  # problems that need a summary
PLACE = re.compile(r".*?: (face \d+ \(.*?\): )?")  # before the problem itself: file, line, face
WORD = re.compile(r"[^\W\d_]+(['’-][^\W\d_]+)*[,;:]?")


class UserError(Exception):
    """Something in the data, the params or the call is wrong.

    Args:
        problems: one message a problem, each saying where (file, line, face or key), what is wrong and what to do.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def summarise(problems: Sequence[str]) -> str:
    """Tell in one line how many problems a long list has, and which kinds are most common; "" of a short list.

    Problems are of one kind where they differ only in their places, numbers and names.
    """
    if len(problems) < LONG:
        return ""
    texts = [PLACE.sub("", problem, count=1).split() for problem in problems]
    masked = [" ".join(word if WORD.fullmatch(word) else "…" for word in text) for text in texts]
    kinds = Counter(re.sub("…( …)+", "…", text) for text in masked)
    shown = [f"{kind} ({count})" for kind, count in kinds.most_common(3)]
    return f"{len(problems)} problems: {'; '.join(shown)}{'; and others' if len(kinds) > 3 else ''}"


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
