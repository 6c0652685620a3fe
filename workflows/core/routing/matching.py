"""Routing: which rule takes a piece of free text, and why.

Rules are tried by priority, the highest first, in the order of the file among equals; the first whose
pattern is found anywhere in the text wins. Patterns are Python's regular expressions as the `regex` package
reads them. Each search has a time limit, since a pattern such as `(a|aa)+$` can take longer than the age of
the universe; a search that reaches it has no result, and who routes refuses the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from workflows.core.text.patterns import compile_pattern, pattern_fault

SEARCH_SECONDS = 0.2

_AROUND = 12


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as it will be tried. With neither agents nor workflow it runs its skill directly."""

    name: str
    pattern: str
    priority: int = 0
    agents: tuple[str, ...] | None = None
    workflow: str | None = None
    skill: str | None = None
    timeout: float | None = None
    """Seconds the routed work may take."""
    file: str = ""
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one rule. `span` are the matched characters of the text, `excerpt` shows them."""

    rule: str
    priority: int
    matched: bool
    reason: str
    span: tuple[int, int] | None = None
    excerpt: str = ""
    slow: bool = False
    """Whether the search was given up at its time limit, so that nobody knows whether the rule matches."""

    def to_json(self) -> dict[str, Any]:
        """One entry of `tried` in `route --json`."""
        return {
            "rule": self.rule,
            "priority": self.priority,
            "matched": self.matched,
            "reason": self.reason,
            "span": list(self.span) if self.span else None,
            "excerpt": self.excerpt,
        }


@dataclass(frozen=True, slots=True)
class RuleChoice:
    """The rule that won, or None, and every rule tried on the way; `untried` came after the winner."""

    rule: Rule | None
    tried: tuple[Tried, ...]
    untried: tuple[Rule, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `route --json`."""
        won = self.rule
        return {
            "rule": won.name if won else None,
            "agents": list(won.agents) if won and won.agents is not None else None,
            "workflow": won.workflow if won else None,
            "skill": won.skill if won else None,
            "tried": [entry.to_json() for entry in self.tried],
        }


def choose(rules: Iterable[Rule], text: str, default: Rule | None = None) -> RuleChoice:
    """The first rule by priority that matches `text`; else `default`; else a choice whose rule is None.

    There is no silent fallback: whoever gets None tells the person that nothing matched.
    """
    ordered = sorted(rules, key=lambda rule: -rule.priority)  # stable: file order among equals
    tried: list[Tried] = []
    for number, rule in enumerate(ordered):
        tried.append(_try(rule, text))
        if tried[-1].matched:
            return RuleChoice(rule, tuple(tried), tuple(ordered[number + 1 :]))
    if default is not None:
        tried.append(Tried(default.name, default.priority, True, "the default: no rule matched"))
    return RuleChoice(default, tuple(tried))


def explain(choice: RuleChoice) -> str:
    """The choice in lines for people."""
    lines = [_explain_try(entry) for entry in choice.tried]
    lines += [f"  -  {rule.name} (priority {rule.priority}): not tried" for rule in choice.untried]
    return "\n".join([_verdict(choice), *lines])


def _try(rule: Rule, text: str) -> Tried:
    fault = pattern_fault(rule.pattern)
    if fault is not None:
        return Tried(rule.name, rule.priority, False, f"the pattern cannot be used: {fault}")
    try:
        found = compile_pattern(rule.pattern).search(text, timeout=SEARCH_SECONDS, concurrent=True)
    except TimeoutError:
        reason = f"the pattern took more than {SEARCH_SECONDS} s: nobody knows whether it matches"
        return Tried(rule.name, rule.priority, False, reason, slow=True)
    if found is None:
        return Tried(rule.name, rule.priority, False, "not found in the text")
    return Tried(rule.name, rule.priority, True, "found", found.span(), _excerpt(text, *found.span()))


def _excerpt(text: str, start: int, end: int) -> str:
    """The match in brackets with a little of the text around it, on one line."""
    match = text[start:end] if end - start <= 40 else f"{text[start : start + 30]}...{text[end - 7 : end]}"
    before = ("..." if start > _AROUND else "") + text[max(0, start - _AROUND) : start]
    after = text[end : end + _AROUND] + ("..." if len(text) > end + _AROUND else "")
    return " ".join(f"{before}[{match}]{after}".split())


def _explain_try(entry: Tried) -> str:
    mark = "yes" if entry.matched else " no"
    shown = f": {entry.excerpt}" if entry.excerpt else f": {entry.reason}"
    return f"  {mark}  {entry.rule} (priority {entry.priority}){shown}"


def _verdict(choice: RuleChoice) -> str:
    rule = choice.rule
    if rule is None:
        return "no rule matches"
    if rule.workflow is not None:
        return f"rule {rule.name} -> workflow {rule.workflow}"
    if rule.agents:
        return f"rule {rule.name} -> {', '.join(rule.agents)}"
    return (
        f"rule {rule.name} -> skill {rule.skill}" if rule.skill else f"rule {rule.name} -> no agent, a skill"
    )
