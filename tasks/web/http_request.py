"""The tool `http_request`: an agent with network access asks the hosts its permissions name, no others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from tasks.effects.calls import NotPerformed
from tasks.effects.tools import ActingTool
from tasks.tools import Effect, ToolError, ToolResult
from tasks.web.addresses import at_address, public_addresses
from tasks.web.answers import body_of, exchange, judge, text_of
from workflows.core.permissions.grants import Grants
from workflows.core.permissions.ruling import Denied
from workflows.core.text.cut_text import cut
from workflows.core.tools.built_in.http_request import HTTP_REQUEST, METHOD_EFFECTS

if TYPE_CHECKING:
    import httpx2

SECONDS = 60.0
"""Of one request with its redirects."""
BODY_BYTES = 256 * 1024
"""Of a response that are read."""
REDIRECTS = 5

_PORTS = {"http": 80, "https": 443}
_METHOD_HEADERS = ("x-http-method-override", "x-http-method", "x-method-override", "x-original-method")
_OURS = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "upgrade", "idempotency-key", "te"),
        *_METHOD_HEADERS,
    }
)
"""Headers that the request itself decides; those of `_METHOD_HEADERS` say that it is another one."""
_OVERRIDES = frozenset(("_method", "_httpmethod", *(name.replace("-", "_") for name in _METHOD_HEADERS)))
"""Fields of a query or a body by which some servers take a request for one of another method."""
_PART = re.compile(r'\bname\*?[ \t]*=[ \t]*"?([^";\r\n]{1,100})', re.IGNORECASE)
"""The name of a part of a body in parts."""
_NO_NAME = re.compile(r"[^a-z0-9]+")
_SHOWN = ("content-type", "location", "etag", "last-modified", "retry-after", "link")
_TEXT = ("text/", "json", "xml", "yaml", "javascript", "csv", "x-www-form-urlencoded")


def http_tool(grants: Grants) -> ActingTool:
    """The tool, for an agent that may call it."""
    assert grants.http is not None
    hosts = ", ".join(sorted(grants.http.endpoints))
    rule = grants.rule(HTTP_REQUEST.name)
    asking = HttpAccess(grants, rule.effect if rule is not None else None)
    acts = asking.declared not in (None, "none")
    about = {"description": "Each may change something."} if acts else {}
    begin, _, end = HTTP_REQUEST.description.partition(". ")
    return ActingTool(
        name=HTTP_REQUEST.name,
        description=f"{begin}. Allowed hosts: {hosts}. {end}",
        input_schema=HTTP_REQUEST.schema_with(method={"enum": list(grants.methods), **about}),
        kind="http",
        send=asking.send,
        effect_of=asking.effect_of,
    ).apply_rule(rule)


@dataclass(frozen=True, slots=True)
class HttpAccess:
    """Requests as `grants` allows them, each with a connection of its own.

    `declared` is the effect of every request, if somebody says; else it is its method's.
    """

    grants: Grants
    declared: Effect | None = None
    seconds: float = SECONDS

    def effect_of(self, arguments: dict[str, Any]) -> Effect:
        """What a request does."""
        return self.declared or METHOD_EFFECTS[arguments["method"]]

    async def send(self, arguments: dict[str, Any], key: str) -> ToolResult:
        """One request. A GET or HEAD that only reads follows redirects within the allowed hosts.

        Raises NotPerformed, Unsure.
        """
        import httpx2

        method = arguments["method"]
        url, addresses = await self._check_address(arguments["url"], method)
        if self._keeps(method) and _overrides_body(arguments.get("body")):
            raise NotPerformed("The body may not say that the request is one of another method.")
        headers, body = _headers(arguments), _body(arguments)
        reads = method in ("GET", "HEAD") and self.effect_of(arguments) == "none"
        if not reads:
            headers["idempotency-key"] = key
        if isinstance(arguments.get("body"), (dict, list)):
            headers.setdefault("content-type", "application/json")
        async with exchange(url.host, self.seconds), httpx2.AsyncClient(timeout=self.seconds) as client:
            for _ in range(REDIRECTS + 1):
                request = client.build_request(method, url, headers=headers, content=body)
                response = await _send_to(client, request, addresses)
                location = _redirect(response, url) if reads else None
                if location is None:
                    return await _read_answer(response, reads, method)
                await response.aclose()
                target, addresses = await self._check_address(location, method)
                if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
                    headers, body = {}, None  # what was meant for one host is nobody else's
                url = target
        raise ToolError(f"{url.host} redirected more than {REDIRECTS} times.")

    def _keeps(self, method: str) -> bool:
        """Whether the method says less than any other could, so that nothing may make it another one."""
        granted = self.grants.http
        return (granted is not None and bool(granted.methods)) or method not in ("POST", "PATCH")

    async def _check_address(self, written: str, method: str) -> tuple[httpx2.URL, Sequence[str]]:
        """The address, when it is one the agent may ask, and where to connect; nothing: by its name.

        Raises NotPerformed.
        """
        import httpx2

        try:
            url = httpx2.URL(written)
            host = url.raw_host.decode("ascii")
        except (httpx2.InvalidURL, ValueError):
            raise NotPerformed(f"{cut(written, 200)} is no address.") from None
        if url.scheme not in _PORTS or not host or "%" in host:
            raise NotPerformed(f"{cut(written, 200)} is no http:// or https:// address.")
        if url.userinfo:
            raise NotPerformed("An address may not hold a user name or password.")
        if self._keeps(method) and _overrides(_fields(url.query.decode("latin-1"))):
            raise NotPerformed("The address may not say that the request is one of another method.")
        ruling = self.grants.may_request(method, url.scheme, host, url.port or _PORTS[url.scheme])
        if isinstance(ruling, Denied):
            raise NotPerformed(f"{ruling.reason}.")
        if "*" not in ruling.by:
            return url, ()
        try:
            return url, await public_addresses(host)
        except NotPerformed as refused:
            raise NotPerformed(f"{refused} {ruling.by} does not allow that.") from None


async def _send_to(
    client: httpx2.AsyncClient, request: httpx2.Request, addresses: Sequence[str]
) -> httpx2.Response:
    """The answer. With addresses, of the first that takes a connection: no name is looked up again."""
    import httpx2

    if not addresses:
        return await client.send(request, stream=True)
    for address in addresses[:-1]:
        with suppress(httpx2.ConnectError, httpx2.ConnectTimeout):  # nothing was sent
            return await client.send(at_address(client, request, address), stream=True)
    return await client.send(at_address(client, request, addresses[-1]), stream=True)


def _fields(text: str) -> list[str]:
    """The names in a query or a form. Some servers take `;` for `&`."""
    return [name for name, _ in parse_qsl(text.replace(";", "&"), keep_blank_values=True)]


def _overrides(names: Iterable[str]) -> bool:
    """Whether one of them is such a field, also as PHP reads it (` .method` and `[method` are `_method`)."""
    read = (name.partition("\0")[0].strip().lower() for name in names)
    parts = (part for name in read for part in (name, name.partition("[")[0]))
    return any(_NO_NAME.sub("_", part) in _OVERRIDES for part in parts)


def _overrides_body(body: Any) -> bool:
    """Whether a body has a field that makes the request another one: as JSON, as a form, or in parts."""
    if isinstance(body, str):
        if _overrides(_PART.findall(body)) or _overrides(_fields(body)):
            return True
        with suppress(ValueError, RecursionError):
            body = json.loads(body)
    return isinstance(body, dict) and _overrides(body)


def _headers(arguments: dict[str, Any]) -> dict[str, str]:
    given = {name.lower(): value for name, value in (arguments.get("headers") or {}).items()}
    # Many servers take `_` for `-`.
    wrong = sorted(name for name in given if name.replace("_", "-") in _OURS)
    if wrong:
        raise NotPerformed(f"These headers cannot be set: {', '.join(wrong)}.")
    if not all(_is_header(name) and value.isprintable() for name, value in given.items()):
        raise NotPerformed("A header has a plain name and a value of one line.")
    return given


def _is_header(name: str) -> bool:
    return name.isascii() and name.replace("-", "").replace("_", "").isalnum()


def _body(arguments: dict[str, Any]) -> bytes | None:
    body = arguments.get("body")
    if body is None:
        return None
    return (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)).encode(
        "utf-8", "replace"
    )


def _redirect(response: httpx2.Response, url: httpx2.URL) -> str | None:
    """Where a redirect leads; None for every other answer."""
    import httpx2

    if not response.has_redirect_location:
        return None
    location = response.headers["location"]
    try:
        return str(url.join(location))
    except (httpx2.InvalidURL, ValueError):
        return str(location)


async def _read_answer(response: httpx2.Response, reads: bool, method: str) -> ToolResult:
    """The answer for the agent. One to a request that acts raises what it says about the call."""
    import httpx2

    note = ""
    try:
        body, more = await body_of(response, BODY_BYTES)
        note = f"\n[cut: only the first {BODY_BYTES} bytes were read]" if more else ""
    except httpx2.HTTPError:
        # The status is an answer already; only where it leaves a doubt does the lost rest matter.
        body, note = b"", "\n[the connection was lost before the whole body came]"
    finally:
        await response.aclose()
    lines = [f"HTTP {response.status_code} {response.reason_phrase}".strip()]
    lines += [f"{name}: {response.headers[name]}" for name in _SHOWN if name in response.headers]
    text = "\n".join(lines) + "\n\n" + _readable(response, body) + note
    if not reads:
        judge(response.status_code, text, method)
    return ToolResult(text.rstrip(), is_error=response.status_code >= 400)


def _readable(response: httpx2.Response, body: bytes) -> str:
    media = response.headers.get("content-type", "text/plain").split(";")[0].strip().lower()
    if body and not any(part in media for part in _TEXT):
        return f"[{len(body)} bytes of {media}]"
    return text_of(body, response.charset_encoding)
