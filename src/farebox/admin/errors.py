"""What an operator's verb can run into beyond farebox/errors.py: a conflict with what there is.

A value that cannot be used is errors.BadRequest, a name that does not exist errors.NotFound.
"""

from farebox.errors import FareboxError, Fault


class Conflict(FareboxError):
    """What was asked contradicts what there is: a name taken, a key revoked already."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"
    fault: Fault = "client"
