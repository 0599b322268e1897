"""What the demo says."""

from __future__ import annotations

import json

from .programs import Running

_TEXT = """\
Session Gateway, with nginx in front and an application behind

  the site       {url}      sign in as alice/alice, or as root/root (role admin)
  gateway        {check}      what nginx asks before every request
  admin API      {admin}      token {token}
  application    {application}      only nginx should reach it
  Valkey         {redis}

Five things to try, in this order:

1. A stranger is sent to sign in, and comes back to the same page afterwards:
   curl -i -H 'Accept: text/html' '{url}/app?page=2'

2. Sign in; then the application knows who it is, from the gateway's headers:
   curl -i -c alice.cookies -d user=alice -d password=alice '{url}/login?rd=/app'
   curl -b alice.cookies {url}/app

3. Nobody can claim to be somebody else:
   curl -b alice.cookies -H 'X-Auth-User: root' -H 'X-Auth-Roles: admin' {url}/app

4. A page for admins only stays closed, however its address is spelled (403):
   curl -i -b alice.cookies {url}/admin/
   curl -i -b alice.cookies --path-as-is '{url}/app/..%2fadmin/'

5. End all of alice's sessions, read the receipt, and see that her cookie is worth nothing (401):
   curl -X DELETE -H 'Authorization: Bearer {token}' {admin}/v1/users/alice/sessions
   curl -i -b alice.cookies {url}/app

In a browser: {url} ; Ctrl-C here ends everything.
ready"""


def for_people(running: Running) -> str:
    """Return the addresses and what to try."""
    return _TEXT.format(**running.addresses, token=running.token)


def for_programs(running: Running) -> str:
    """Return the same as one line of JSON."""
    pids = {child.name.removeprefix("the "): child.pid for child in running.children}
    pids["valkey"] = running.valkey.pid
    return json.dumps({**running.addresses, "token": running.token, "pids": pids})
