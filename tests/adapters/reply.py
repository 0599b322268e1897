"""An answer as the proxy sees it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    head: bytes
    for_upstream: bool = False  # the headers go to the application, where HTTP takes some of them
    removed: tuple[str, ...] = ()  # the client's headers that do not

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str:
        """Return the value of a header that must be there exactly once."""
        values = self.all(name)
        assert len(values) == 1, (name, self.headers)
        return values[0]

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.headers}
