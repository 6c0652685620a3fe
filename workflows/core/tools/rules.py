"""What an agent's tools-config.json and permissions give its steps, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from workflows.core.errors import Mistake
from workflows.core.models.agent import McpServer, Permissions, ToolRule, ToolsConfig
from workflows.core.models.people import Deciders
from workflows.core.plans.plan import DecidersPlan, ServerPlan, ToolRulePlan
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source
from workflows.core.tools.built_in.http_request import HTTP_REQUEST
from workflows.core.tools.mcp_servers import VARIABLE, VARIABLE_NAME
from workflows.core.tools.names import overlaps, rule_names
from workflows.core.tools.secret_names import HARMLESS, tells_secret

_SERVER_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_HOST = r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9a-fA-F:.]+\]"
ENDPOINT = re.compile(rf"(?:(?P<scheme>https?)://)?(?P<host>{_HOST})(?::(?P<port>\d{{1,5}}))?")
"""A pattern of hosts. A star stands for whole labels at the beginning: elsewhere it would match strangers."""
SECRET_NAME = re.compile(r".*(api[_-]?key|token|secret|password|authorization|cookie).*", re.IGNORECASE)


def server_plans(tools: ToolsConfig) -> tuple[ServerPlan, ...]:
    """The servers, by name: their order in the file says nothing."""
    return tuple(ServerPlan(name=name, server=tools.mcpServers[name]) for name in sorted(tools.mcpServers))


def rule_plans(tools: ToolsConfig) -> tuple[ToolRulePlan, ...]:
    """The rules, by name."""
    return tuple(_rule_plan(name, tools.tools[name]) for name in sorted(tools.tools))


def _rule_plan(name: str, rule: ToolRule) -> ToolRulePlan:
    return ToolRulePlan(
        name=name,
        effect=rule.effect,
        allow=rule.allow,
        effect_key=rule.effect_key,
        approval=rule.approval,
        people=deciders_plan(rule.people),
    )


def deciders_plan(people: Deciders | None) -> DecidersPlan | None:
    """Who answers what calls ask, as a plan carries it."""
    return None if people is None else DecidersPlan(**people.model_dump())


def rule_of(rules: Sequence[ToolRulePlan], *names: str) -> ToolRulePlan | None:
    """The rule of a tool, by the first of its names that has one."""
    by_name = {rule.name: rule for rule in rules}
    return next((by_name[name] for name in names if name in by_name), None)


def check_tools(source: Source, tools: ToolsConfig, findings: Findings) -> None:
    """Records what is wrong with a tools-config.json: rules of no server, odd names, open secrets, rules that
    switch off what another says."""
    for name, server in tools.mcpServers.items():
        if not _SERVER_NAME.fullmatch(name):
            findings.error(
                source,
                ("mcpServers", name),
                f"'{name}' is no name of a server: it becomes a part of its tools' names",
                "use up to 40 letters, digits, '_' and '-'",
                of_key=True,
            )
        if server.command is not None:
            findings.warn(
                source,
                ("mcpServers", name, "command"),
                f"the server '{name}' is a program that runs as you: it can do on this machine what you can",
                "start only servers you would start yourself; docs/security.md says what is held",
            )
        _check_secrets(source, name, server, findings)
        _check_words(source, name, server, findings)
        for place, text in _texts(source.value(("mcpServers", name)), ("mcpServers", name)):
            _check_variables(source, place, text, findings)
        _check_declared(source, name, server, tools, findings)
    for name, rule in tools.tools.items():
        _check_rule(source, name, rule, tools, findings)
    _check_overlaps(source, tools, findings)


def _check_overlaps(source: Source, tools: ToolsConfig, findings: Findings) -> None:
    """The first rule of a tool counts whole: what only the one behind it says, an approval too, is lost."""
    told: set[tuple[str, str]] = set()
    for pair in overlaps(tools.tools, {name: server.tools for name, server in tools.mcpServers.items()}):
        first, behind = tools.tools[pair.first], tools.tools[pair.behind]
        # `methods` is of http_request alone: nothing of a server's tool is lost with it.
        lost = sorted(behind.model_fields_set - first.model_fields_set - {"methods"})
        if not lost or (pair.first, pair.behind) in told:
            continue
        told.add((pair.first, pair.behind))
        keys = ", ".join(f'"{key}"' for key in lost)
        findings.error(
            source,
            ("tools", pair.first),
            f"for '{pair.tool}' of '{pair.server}' only this rule counts: {keys} of '{pair.behind}' is lost",
            f"write {keys} in '{pair.first}' too, or remove one of the two rules",
            of_key=True,
        )


def _texts(value: object, place: Key) -> Iterator[tuple[Key, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*place, index))


def _check_variables(source: Source, place: Key, text: str, findings: Findings) -> None:
    for name, end in VARIABLE.findall(text):
        if not end:
            findings.error(source, place, "'${' without its '}'", "write ${NAME} or ${NAME:-default}")
        elif not VARIABLE_NAME.fullmatch(name):
            message = f"'${{{name}}}' names no variable of the environment"
            findings.error(source, place, message, "write ${NAME} or ${NAME:-default}")


def _check_secrets(source: Source, name: str, server: McpServer, findings: Findings) -> None:
    for kind, values in (("env", server.env), ("headers", server.headers)):
        for key, value in values.items():
            open_value = value and "${" not in value
            if open_value and (SECRET_NAME.fullmatch(key) or tells_secret(key, value)):
                message = f"'{key}' looks like a secret; it becomes a part of every plan"
                cure = "write ${NAME}, and set NAME where it runs"
                # The mistake itself must not show it.
                place = source.mistake(("mcpServers", name, kind, key), message, cure)
                findings.warnings.append(_without_value(place))


def _check_words(source: Source, name: str, server: McpServer, findings: Findings) -> None:
    """Variables among the words of a command, which are not only the server's to see."""
    words = [(("args", index), text) for index, text in enumerate(server.args)]
    for below, text in [(("command",), server.command or ""), *words]:
        for written, _ in VARIABLE.findall(text):
            named = VARIABLE_NAME.fullmatch(written)
            if named and named[1] not in HARMLESS:
                variable = named[1]
                message = f"{variable} becomes a word of a command: everybody on this machine sees it (`ps`)"
                cure = f'give it to the server in `env`: {{"{variable}": "${{{variable}}}"}}'
                findings.warn(source, ("mcpServers", name, *below), message, cure)


def _without_value(mistake: Mistake) -> Mistake:
    return replace(mistake, value="[hidden]")


def _check_declared(
    source: Source, name: str, server: McpServer, tools: ToolsConfig, findings: Findings
) -> None:
    if server.trust_annotations:
        return
    for index, tool in enumerate(server.tools):
        rule = next((tools.tools[known] for known in rule_names(name, tool) if known in tools.tools), None)
        if rule is None or (rule.effect is None and rule.allow):
            findings.warn(
                source,
                ("mcpServers", name, "tools", index),
                f"nothing says what '{tool}' of '{name}' does; it counts as `once`: when its outcome is not "
                "known, a person is asked",
                f'write "{name}.{tool}": {{"effect": "none"}} (or idempotent, or once) below "tools"',
            )


def _check_rule(source: Source, name: str, rule: ToolRule, tools: ToolsConfig, findings: Findings) -> None:
    server, dot, tool = name.partition(".")
    for message, cure in _rule_mistakes(server, tool, tools, findings) if dot else ():
        findings.error(source, ("tools", name), message, cure, of_key=True)
    if rule.effect_key and rule.effect == "none":
        findings.warn(
            source,
            ("tools", name, "effect_key"),
            f"'{name}' has no effect, so that nothing identifies it",
            "remove effect_key",
        )
    if rule.methods and name != HTTP_REQUEST.name:
        findings.error(
            source,
            ("tools", name, "methods"),
            f"'{name}' makes no HTTP requests of its own",
            f"write methods below '{HTTP_REQUEST.name}', or remove it",
        )


def _rule_mistakes(
    server: str, tool: str, tools: ToolsConfig, findings: Findings
) -> Iterator[tuple[str, str]]:
    if server not in tools.mcpServers:
        near = findings.near(server, tools.mcpServers)
        yield f"unknown server '{server}'", near or "add it below mcpServers, or remove the rule"
    elif not tool:
        yield f"'{server}.' names no tool", "write server.tool"
    elif (offered := tools.mcpServers[server].tools) and tool not in offered:
        yield f"'{tool}' is not among the tools of '{server}'", findings.near(tool, offered)


def check_endpoints(source: Source, base: Key, given: Permissions, findings: Findings) -> None:
    """Records host patterns that mean nothing, and network access to nobody. `base`: the permissions' key."""
    for index, pattern in enumerate(given.allowed_endpoints):
        if not ENDPOINT.fullmatch(pattern):
            findings.error(
                source,
                (*_place(source, base, "allowed_endpoints"), index),
                f"'{pattern}' is no pattern of hosts",
                "write example.com, *.example.com or https://example.com:8443, without a path",
            )
    if given.network_access and not given.allowed_endpoints:
        findings.warn(
            source,
            _place(source, base, "network_access"),
            "network_access without allowed_endpoints reaches nobody",
            "list the hosts as allowed_endpoints",
        )


def _place(source: Source, base: Key, key: str) -> Key:
    """Where a permission stands: in a map, or in one of the documents' list of small maps."""
    written = source.value(base)
    if isinstance(written, list):
        at = next((i for i, entry in enumerate(written) if isinstance(entry, dict) and key in entry), 0)
        return (*base, at, key)
    return (*base, key)
