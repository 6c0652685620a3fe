"""Which variables hold secrets: those with telling names, and those a catalog takes keys and entries from.

Of a catalog only names are read, and without compiling anything: commands that answer or show a run need them
too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every command comes by here
    from workflows.core.models.agent import McpServer
    from workflows.core.plans.plan import Plan

_TELLING = re.compile(
    # Whole words of a name, and endings that words grow together with.
    r"(.*_)?(PASS|PASSWD|PWD|PAT|PIN|AUTH|AUTH_STRING|AUTHORIZATION|CREDS?|COOKIE|JWT|SIGNATURE|DSN)"
    r"|(.*_)?(WEBHOOK(_URL)?|HOOK_URL)"
    r"|.*(PASSWORDS?|PASSWD|PASSPHRASE|TOKENS?|SECRETS?|API_?KEYS?|CREDENTIALS?|PRIVATE_?KEY|ACCESS_?KEY)"
    r"|(.*_)?(PASSWORD|TOKEN|SECRET)_[A-Z0-9]+|AWS_ACCESS_KEY_ID"
)
_KEY = re.compile(r"(.*_)?KEYS?(_BASE)?(_?\d+)?")
"""Names of keys, which may be of a lock or of a column: their value has to look like one."""
_PLAIN_WORDS = re.compile(r"[a-z]+([_.-][a-z]+)*")
_NO_SECRET = re.compile(
    r"(?!AWS_ACCESS_KEY_ID).*_(FILE|PATH|DIR|FOLDER|NAME|ID|TTL|TIMEOUT|EXPIRY|EXPIRES|TYPE|LENGTH|LIMIT)S?"
)
HARMLESS = frozenset(
    {
        *("PWD", "OLDPWD", "HOME", "USER", "LOGNAME", "HOSTNAME", "SHELL", "TERM", "LANG", "PATH", "TZ"),
        *("TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "EDITOR", "PHASELINE_HOME", "PHASELINE_CATALOG"),
        *("PHASELINE_STORAGE", "GOOGLE_APPLICATION_CREDENTIALS", "AWS_REGION", "AWS_DEFAULT_REGION"),
        *("AWS_PROFILE", "NODE_ENV"),
    }
)
"""Whatever takes a value of these: paths and names stand in everything, and are no secrets."""

_FILES = ("tools-config.json", "config.yaml", "config.yml", "package.yao")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]{0,200})")
_CONNECTOR = re.compile(r"connector[\"']?\s{0,9}:\s{0,9}[\"']?(?:\$ENV\.)?([A-Za-z_][A-Za-z0-9_]{0,200})")
_MOST_BYTES = 1024 * 1024
_MOST_FILES = 5000


def variables_of_catalog(root: Path) -> frozenset[str]:
    """The names in the agents' files below `root`; what cannot be read gives none."""
    found: set[str] = set()
    for path in _files(root / "agents"):
        try:
            with path.open("rb") as file:
                text = file.read(_MOST_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        found.update((_REFERENCE if path.suffix == ".json" else _CONNECTOR).findall(text))
    return frozenset(found) - HARMLESS


def _files(folder: Path) -> Iterator[Path]:
    left = _MOST_FILES
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if name in _FILES and path.is_file():  # neither a pipe nor a device
                yield path
                left -= 1
        if left <= 0:
            return


def variables_of_plan(plan: Plan) -> frozenset[str]:
    """The names that a plan's agents take their keys, and their servers' entries, from."""
    from workflows.core.plans.agents import agents_of

    found = {agent.model.connection for agent in agents_of(plan) if agent.model.connection}
    for agent in agents_of(plan):
        for server in agent.servers:
            found.update(variables_of_server(server.server))
    return frozenset(found)


def variables_of_server(server: McpServer) -> frozenset[str]:
    """Every `${VAR}` of an entry, wherever it stands in it."""
    texts = (server.command or "", server.cwd or "", server.url or "", *server.args)
    values = (*texts, *server.env.values(), *server.headers.values())
    return frozenset(name for text in values for name in _REFERENCE.findall(text)) - HARMLESS


def tells_secret(name: str, value: str) -> bool:
    """Whether a variable, a header or a field of that name is one that holds a secret, such as `value`."""
    upper = name.upper().replace("-", "_")
    if name in HARMLESS or _NO_SECRET.fullmatch(upper):
        return False
    if _TELLING.fullmatch(upper):
        return True
    return bool(_KEY.fullmatch(upper)) and not _PLAIN_WORDS.fullmatch(value.strip())
