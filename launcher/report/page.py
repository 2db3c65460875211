"""Renders a page as one HTML text that contains its styles, charts and scripts."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from launcher import __version__
from launcher.report.charts import Chart
from launcher.report.layout import Page

_VEGA_LITE = "6.4"


def render(page: Page) -> str:
    """Return the HTML text. The page loads nothing, and its policy allows no other scripts than its own."""
    files = resources.files("launcher.report")
    style = (files / "page.css").read_text(encoding="utf-8")
    scripts = [*([_library()] if page.charts else []), (files / "page.js").read_text(encoding="utf-8")]
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (files / "page.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        page=page,
        version=__version__,
        policy=_policy(style, scripts),
        style=Markup(style),  # noqa: S704 - our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - our own, and vl-convert's
        data=Markup(data_script(page.charts)),  # noqa: S704 - every < in it is escaped
    )


def data_script(charts: Sequence[Chart]) -> str:
    """Return specs and data as JSON, escaped so that any text in it is safe inside a script element."""
    data: dict[str, Any] = {}
    for chart in charts:
        data |= chart.data
    payload = {"specs": [chart.spec for chart in charts], "data": data}
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@cache
def _library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script. Building it takes a second or more."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", _VEGA_LITE)
    return bundle


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Return the Content-Security-Policy: only these scripts and this style, by hash, and no requests."""
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; base-uri 'none';"
        " form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
