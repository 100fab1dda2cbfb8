"""Errors that a user can fix: one clear message, no traceback."""


class UserError(Exception):
    """Something in the data, the params or the call is wrong.

    Args:
        problems: one message a problem, each saying where (file, line, face or key), what is wrong and what to do.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
