"""The scratch folder of a handler's call: code and documents are written into it, and it is removed after."""

from __future__ import annotations

import mimetypes
import os
import re
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.handlers.pinned_code import Code, stopped_by
from tasks.values import DocumentFile

_SUFFIXES = {
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "text/html": ".html",
    "application/json": ".json",
    "application/yaml": ".yaml",
}


def write_files(
    scratch: Path,
    code: Code,
    documents: Mapping[str, DocumentFile | Sequence[DocumentFile]],
    over: threading.Event,
) -> dict[str, Any]:
    """Write the code, and each document read-only in a folder of its own. Gives the paths the call names.

    Raises CopyStopped once `over` is set, and what `code.copy` raises.
    """
    folder = code_folder(scratch)
    folder.mkdir(mode=0o700)
    with stopped_by(over):
        file = code.copy(folder)
    written: dict[str, str | list[str]] = {}
    for parameter, given in documents.items():
        several = [given] if isinstance(given, DocumentFile) else list(given)
        paths = [_write(scratch / "documents" / f"{len(written)}-{n}", doc) for n, doc in enumerate(several)]
        written[parameter] = paths[0] if isinstance(given, DocumentFile) else paths
    return {"file": str(file.resolve()), "documents": written}


def code_folder(scratch: Path) -> Path:
    """Where the code of a call is."""
    return scratch / "code"


def _write(folder: Path, document: DocumentFile) -> str:
    folder.mkdir(parents=True)
    path = folder / _file_name(document)
    path.write_bytes(document.body)
    path.chmod(0o444)
    folder.chmod(0o555)
    return str(path)


def _file_name(document: DocumentFile) -> str:
    """A name for the file: the document's, made harmless, with the suffix its media type asks for."""
    stem = re.sub(r"[^\w.-]+", "_", document.name).lstrip(".") or "document"
    media = document.media_type.split(";")[0].strip().lower()
    suffix = _SUFFIXES.get(media) or mimetypes.guess_extension(media) or ".bin"
    while len(stem.encode()) > 120:
        stem = stem[:-1]
    return stem if stem.lower().endswith(suffix) else stem + suffix


def remove_scratch(folder: Path) -> None:
    """Remove a scratch folder, also one whose rights the handler changed. Links are not followed."""
    if not folder.is_dir():
        return  # the handler did it
    folder.chmod(0o700)
    for place, folders, _ in os.walk(folder):
        for name in folders:
            inner = Path(place, name)
            if not inner.is_symlink():
                inner.chmod(0o700)
    shutil.rmtree(folder)
