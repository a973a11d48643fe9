"""Why a webhook is not taken: what its sender is told, and what only the log is."""

from __future__ import annotations


class NotTaken(Exception):
    """Ends the handling of a request with an answer other than 200.

    :param status: the status of the response.
    :param error: one word for what is wrong, for programs.
    :param reason: a sentence for people at the sender's; holds nothing that it did not send.
    """

    def __init__(self, status: int, error: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.error, self.reason = status, error, reason


class Missing(NotTaken):
    """A path leads to nothing, or not to what is needed there."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(422, "unusable", f"{path}: {problem}")
        self.path = path


class Unverified(Exception):
    """A request is not signed as it has to be. Why, the log is told; its sender is not."""
