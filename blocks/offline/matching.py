"""Which pieces of the material belong under which heading.

A piece is near a topic by the terms they share: rare terms count more, and what a piece is called counts more
than what it says. Tool results come before documents; for an agent with a persona, what is near to the
persona's own words comes first. Each piece goes to the one topic it fits best, so that sections do not
repeat each other.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from blocks.offline.pieces import Piece
from blocks.offline.words import terms

_LABEL = {"fact": 3.0, "table": 3.0, "passage": 3.0, "row": 1.0, "gap": 3.0}
_BODY = {"fact": 0.3, "table": 0.7, "passage": 1.0, "row": 0.7, "gap": 0.0}
"""What a piece says counts less where it is a list of values or the columns of a table."""
_CONCEPT = 1.5
_TOOL = 1.6
_ROW = 0.6
"""A row of a table repeats what the table shows."""
_OPINION = 0.5
"""What is near to who answers counts so much in an opinion, of the best that its words find."""
_ABOUT = 0.3
_TELLING = re.compile(r"\d")
_BINDING = re.compile(r"必须|不得|应|不低于|不高于|≥|≤|must|shall|should|at least|at most", re.I)

Opinion = Literal["", "verdict", "agreement"]
_NEAR = 0.3
"""Of a topic's best score; below it a piece is no answer."""
_NEAR_MEASURED = 0.5
"""The same for documents where a tool result answers."""
_DOCUMENT_PULL, _PIECE_PULL = 2.0, 1.0


@dataclass
class Topic:
    """One thing to find material for; `name` counts whole, `about` a part.

    `room` says how many of each kind may be shown, `prefers` which kinds count more. An `opinion` is
    asked of somebody: what is near to who answers belongs to it, whatever its words. `own` leaves out what
    other documents than the one nearest to who answers say. `taken` is filled by `share_out`; `elsewhere`
    is the best piece, which may have gone to another topic. A `claim` below 1 lets others choose first.
    """

    name: str
    about: str = ""
    room: Mapping[str, int] = field(default_factory=dict)
    prefers: Mapping[str, float] = field(default_factory=dict)
    opinion: Opinion = ""
    own: bool = False
    claim: float = 1.0
    taken: list[int] = field(default_factory=list)
    elsewhere: int | None = None


class Index:
    """The pieces of a request by their terms, weighed for who answers.

    `speaker` says who that is in a line, `persona` at length; without them all pieces weigh the same.
    """

    def __init__(self, pieces: Sequence[Piece], speaker: str = "", persona: str = "") -> None:
        self.pieces = pieces
        self._holders: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._spread: Counter[str] = Counter()
        """Pieces with a term; the rows of a table are one with it."""
        for n, piece in enumerate(pieces):
            whole = piece.label | piece.body
            self._spread.update(whole if piece.kind != "row" else ())
            for term in whole:
                weight = _LABEL[piece.kind] * (term in piece.label) + _BODY[piece.kind] * (term in piece.body)
                self._holders[term].append((n, weight))
        self._whole = sum(piece.kind != "row" for piece in pieces)
        self._near = self._documents(Counter(terms(speaker)))
        self._own = next((source for source, part in self._near.items() if part == 1), "")
        """The document that is nearest to who answers, empty for nobody in particular."""
        self._factors = self._pull(Counter(terms(f"{speaker}\n{persona}")))

    def scores(self, topic: Topic) -> dict[int, float]:
        """How near each piece is to a topic; pieces that share nothing with it are left out."""
        name = dict.fromkeys(terms(topic.name), 1.0)
        # What is said of a topic decides only where its name finds nothing.
        fitting = {n for term in name for n, _ in self._holders.get(term, ())}
        found: dict[int, float] = defaultdict(float)
        for term, importance in (dict.fromkeys(terms(topic.about), _ABOUT) | name).items():
            rarity = self._rarity(term) * importance
            for n, weight in self._holders.get(term, ()):
                if not fitting or n in fitting:
                    found[n] += rarity * weight
        concepts = {term for term in name if term.startswith("#")}
        scores = {
            n: found[n] * self._weight(n, topic)
            for n in sorted(found)
            if not self.pieces[n].inner and not self._foreign(self.pieces[n], topic, concepts)
        }
        return self._opinions(scores, topic.opinion) if topic.opinion else scores

    def _foreign(self, piece: Piece, topic: Topic, concepts: set[str]) -> bool:
        """Whether a piece is not for this topic, or not for who answers.

        Of the tables that earlier steps wrote down, only those are shown again that are about the topic by
        their name, and stand in the document nearest to who answers.
        """
        far = bool(self._own) and not piece.tool and piece.source != self._own
        if far and topic.own and piece.kind != "gap":
            return True
        if piece.kind not in ("table", "row") or not piece.repeated:
            return False
        return far or (piece.kind == "table" and not concepts & piece.label)

    def _opinions(self, scores: Mapping[int, float], opinion: Opinion) -> dict[int, float]:
        """What somebody can say for themselves: of the document nearest to them, by their own words too."""
        best = max(scores.values(), default=1.0)
        found = {}
        for n, piece in enumerate(self.pieces):
            told = bool(_TELLING.search(piece.text))
            stated = piece.kind == "passage" and (
                opinion == "verdict" or (told and _BINDING.search(piece.text))
            )
            here = not self._own or piece.source == self._own
            if here and (stated or (piece.kind == "fact" and n in scores)):
                own = best * _OPINION * (self._factors[n] - 1) * (1.0 if told else 0.5)
                found[n] = scores.get(n, 0.0) + own
        return found

    def factor(self, n: int) -> float:
        """How much a piece matters to who answers; 1 for nobody in particular."""
        return self._factors[n]

    def _rarity(self, term: str) -> float:
        rarity = math.log(1 + (self._whole + 1) / (self._spread[term] + 1))
        return rarity * (_CONCEPT if term.startswith("#") else 1)

    def _weight(self, n: int, topic: Topic) -> float:
        """What else counts: the kind of piece, who answers; long ones share something with everything."""
        piece = self.pieces[n]
        kind = (_TOOL if piece.tool else 1.0) * (_ROW if piece.kind == "row" else 1.0)
        length = math.pow(8 + len(piece.body), 0.3)
        return kind * topic.prefers.get(piece.kind, 1.0) * self._factors[n] / length

    def _pull(self, persona: Counter[str]) -> list[float]:
        """The factor of each piece: its own nearness to the persona, and that of its document's name."""
        own = [0.0] * len(self.pieces)
        for term, count in persona.items():
            rarity = self._rarity(term) * min(count, 3)
            for n, _ in self._holders.get(term, ()):
                own[n] += rarity
        own = [score / (8 + len(piece.body)) ** 0.5 for score, piece in zip(own, self.pieces, strict=True)]
        best = max(own, default=0.0)
        return [
            1
            + _DOCUMENT_PULL * self._near.get(piece.source, 0.0)
            + (_PIECE_PULL * score / best if best else 0.0)
            for score, piece in zip(own, self.pieces, strict=True)
        ]

    def _documents(self, speaker: Counter[str]) -> dict[str, float]:
        """How near the name of each document is to who answers, 0 to 1."""
        sources = dict.fromkeys(piece.source for piece in self.pieces if not piece.tool)
        shared = {source: sum(speaker[term] for term in set(terms(source))) for source in sources}
        most = max(shared.values(), default=0)
        return {source: count / most if most else 0.0 for source, count in shared.items()}


def share_out(index: Index, topics: Sequence[Topic]) -> None:
    """Gives every piece to the topic it fits best, the best fits first, as far as topics have room."""
    offers = []
    left = [dict(topic.room) for topic in topics]
    for t, topic in enumerate(topics):
        scores = index.scores(topic)
        # Tables and what is said do not displace each other; rows are measured by what is said.
        topic.elsewhere = max(scores, key=lambda n: (scores[n], -n)) if scores else None
        tables, said = _best(index, scores, {"table"}), _best(index, scores, {"fact", "passage", "gap"})
        for n, score in scores.items():
            best, measured = tables if index.pieces[n].kind == "table" else said
            least = _NEAR_MEASURED if measured and not index.pieces[n].tool else _NEAR
            # The best of each topic first, but a topic that hardly fits does not take what fits another.
            offers += [(-topic.claim * score * (score / best) ** 0.5, t, n)] if score >= least * best else []
    gone: set[int] = set()
    told: list[str] = []
    for _, t, n in sorted(offers):
        piece = index.pieces[n]
        if n in gone or left[t].get(piece.kind, 0) <= 0 or is_told(piece, told):
            continue
        left[t][piece.kind] -= 1
        gone.add(n)
        told.append(piece.said or (piece.key and f"{piece.key}: {piece.text}"))
        topics[t].taken.append(n)


def _best(index: Index, scores: Mapping[int, float], kinds: set[str]) -> tuple[float, bool]:
    """The best score among pieces of these kinds (else of any kind), and whether it is a tool's."""
    found = [(score, index.pieces[n].tool, index.pieces[n].kind in kinds) for n, score in scores.items()]
    own = [(score, tool) for score, tool, fits in found if fits]
    return max(own or [(score, tool) for score, tool, _ in found], default=(0.0, False))


def is_told(piece: Piece, told: Sequence[str]) -> bool:
    """Whether its words were told already, in a longer or shorter passage, or as the same fact."""
    if piece.key:
        return f"{piece.key}: {piece.text}" in told
    return bool(piece.said) and any(piece.said in other or (other and other in piece.said) for other in told)
