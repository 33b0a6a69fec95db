"""The text of a document of several pages or chapters, and where each of them begins."""

from __future__ import annotations

from headrace.corpus.media.refusal import RefusalError

BETWEEN = "\n\n"


class JoinedText:
    """Parts of a text with an empty line between them.

    Args:
        most: Characters at which the document is refused.
    """

    def __init__(self, most: int) -> None:
        self.offsets: list[int] = []
        """Character at which each part begins that has text."""
        self._parts: list[str] = []
        self._length = 0
        self._most = most

    def add(self, part: str) -> None:
        """Append a part; :class:`RefusalError` if the text is too large with it."""
        part = part.strip()
        if not part:
            return
        start = self._length + len(BETWEEN) if self._parts else 0
        self._length = start + len(part)
        if self._length > self._most:
            raise RefusalError("too large", f"more than {self._most} characters of text")
        self.offsets.append(start)
        self._parts.append(part)

    def __str__(self) -> str:
        return BETWEEN.join(self._parts)
