"""The gateway's admin API as an application uses it: three calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from aiohttp import ClientError, ClientSession, ClientTimeout


class ApiFailed(Exception):
    """The gateway did not do what was asked; the message says why."""


class SessionsApi:
    """Creates, lists and ends sessions."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._client: ClientSession | None = None

    async def open(self) -> AsyncIterator[None]:
        """Keep connections for as long as the application runs."""
        timeout = ClientTimeout(total=5)
        async with ClientSession(headers=self._headers, timeout=timeout) as self._client:
            yield

    async def create(self, login: dict[str, object]) -> Any:
        """Return the new session, with the cookie to set."""
        return await self._call("POST", "/v1/sessions", json=login)

    async def list(self, user: str) -> Any:
        """Return the user's sessions, newest activity first."""
        page = await self._call("GET", f"/v1/users/{quote(user, safe='')}/sessions")
        return page["sessions"]

    async def end(self, session_id: str, reason: str) -> Any:
        """Return the receipt; a session that is gone already is no failure."""
        path = f"/v1/sessions/{quote(session_id, safe='')}"
        return await self._call("DELETE", path, params={"reason": reason}, fine=(404,))

    async def _call(self, method: str, path: str, fine: tuple[int, ...] = (), **more: Any) -> Any:
        if self._client is None:
            raise ApiFailed("the application is not open")
        try:
            async with self._client.request(method, self._url + path, **more) as response:
                answer = await response.json(content_type=None)
        except (ClientError, TimeoutError, ValueError) as error:
            raise ApiFailed(f"the gateway's admin API does not answer: {error}") from None
        if response.status >= 400 and response.status not in fine:
            raise ApiFailed(f"{response.status}: {answer.get('detail', 'no reason given')}")
        return answer
