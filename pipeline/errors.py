"""Errors that a user can mend: one clear message, no traceback."""


class UserError(Exception):
    """Something in the data, the params or the call is wrong.

    Args:
        faults: one message a fault, each saying where (file, line, face or key), what is wrong and what to do.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
