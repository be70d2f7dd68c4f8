"""The page for people: one HTML file without anything from elsewhere.

It holds no data; its script reads ``/events``. All that the machine says is put into the page as
text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files

from machine_lifecycle.states.names import Trigger
from machine_lifecycle.states.table import TABLE

__all__ = ["Picture"]


class Picture:
    """The page and the policy that lets a browser run its script and its style alone.

    Attributes:
        html: The page.
        policy: Its ``Content-Security-Policy``.
    """

    def __init__(self) -> None:
        folder = files("machine_lifecycle.health")
        page, script, style = (
            folder.joinpath(name).read_text(encoding="utf-8")
            for name in ("page.html", "page.js", "page.css")
        )
        states = [
            {"word": spec.state.value, "title": spec.title, "summary": spec.summary}
            for spec in TABLE.states
        ]
        # Faults and stops lead out of nearly every state: the script draws them as two bands.
        bands = (Trigger.FAULTED, Trigger.STOP_REQUESTED)
        edges = [
            (row.source.value, row.target.value)
            for row in TABLE.rows
            if row.target is not None and row.target is not row.source and row.trigger not in bands
        ]
        script = script.replace("__STATES__", json.dumps(states))
        script = script.replace("__EDGES__", json.dumps(list(dict.fromkeys(edges))))
        self.html: str = page.replace("__STYLE__", style).replace("__SCRIPT__", script)
        self.policy: str = (
            "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            f"frame-ancestors 'none'; script-src '{_digest(script)}'; "
            f"style-src '{_digest(style)}'"
        )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
