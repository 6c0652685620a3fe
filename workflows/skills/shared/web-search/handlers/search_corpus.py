"""Search a document of the step. There is no connection to the web here, and the answer says so."""

from pathlib import Path
from typing import Any

from _bm25 import Index, read_passages, terms


def search_corpus(corpus: Path, query: str, top: int = 5) -> dict[str, Any]:
    """Search one of the step's documents for the passages that answer a query, best first.

    Local full-text search (BM25 over Chinese character pairs and English words). It sees nothing but the
    document given: no hit means "not in this document", never "not true".

    Args:
        corpus: Document to search: Markdown or text by paragraph, CSV by row, JSON by entry.
        query: Key words or a question, Chinese or English.
        top: Passages returned, 1 to 20.
    """
    passages = read_passages(corpus)
    wanted = list(dict.fromkeys(terms(query)))
    if not wanted:
        raise ValueError("the query holds no word to search for; give key words in Chinese or English")
    hits = Index(passages).rank(query)[: max(1, min(top, 20))]
    return {
        "source": "local",
        "note": "searched in the given document only; no web access",
        "query": query,
        "passages_searched": len(passages),
        "results": [
            {
                "rank": place,
                "score": round(score, 3),
                "place": passages[index].place,
                "text": passages[index].text,
                "terms_found": _found(wanted, passages[index].text),
            }
            for place, (score, index) in enumerate(hits, 1)
        ],
    }


def _found(wanted: list[str], text: str) -> list[str]:
    held = set(terms(text))
    return [term for term in wanted if term in held]
