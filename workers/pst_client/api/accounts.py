"""Sign-in, who one is, tokens, first set-up, workspaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pst_client.api import API, Json, given

if TYPE_CHECKING:
    from pst_client.client import Http


class Accounts:
    def __init__(self, http: Http) -> None:
        self._http = http

    def setup_state(self) -> Json:
        """``{"needed", "enabled"}``: whether the installation still lacks its first owner."""
        return self._http.mapping("GET", f"{API}/setup")

    def setup(
        self, *, code: str, username: str, password: str, workspace: str, workspace_name: str | None = None
    ) -> Json:
        """Make the first owner and sign in. Returns Me."""
        body = given(
            code=code, username=username, password=password, workspace=workspace, workspace_name=workspace_name
        )
        return self._http.mapping("POST", f"{API}/setup", json=body)

    def sign_in(self, *, username: str, password: str) -> Json:
        """Open a session, whose cookie this client keeps. Returns Me with ``csrf_token``, which writes must send."""
        return self._http.mapping("POST", f"{API}/session", json={"username": username, "password": password})

    def sign_out(self, *, csrf_token: str) -> None:
        self._http.json("DELETE", f"{API}/session", headers=self._csrf(csrf_token))

    def me(self, *, token: str | None = None) -> Json:
        """Who the token belongs to: ``{"user", "kind", "workspaces": [{"slug", "name", "role"}], …}``."""
        return self._http.mapping("GET", f"{API}/me", token=token)

    def workspaces(self) -> Json:
        return self._http.mapping("GET", f"{API}/workspaces")

    def create_token(
        self,
        *,
        name: str,
        kind: str = "user",
        workspace: str | None = None,
        role: str | None = None,
        expires_at: str | None = None,
        csrf_token: str | None = None,
    ) -> Json:
        """Make a token; ``token`` in the answer is its secret, shown this once. In a session give ``csrf_token``."""
        body = given(name=name, kind=kind, workspace=workspace, role=role, expires_at=expires_at)
        headers = self._csrf(csrf_token) if csrf_token else None
        return self._http.mapping("POST", f"{API}/tokens", json=body, headers=headers)

    def tokens(self) -> Json:
        return self._http.mapping("GET", f"{API}/tokens")

    def revoke_token(self, token_id: str) -> None:
        self._http.json("DELETE", f"{API}/tokens/{token_id}")

    def _csrf(self, csrf_token: str) -> dict[str, str]:
        # Django compares the Referer's origin too where the connection is HTTPS.
        return {"X-CSRFToken": csrf_token, "Referer": self._http.url + "/"}
