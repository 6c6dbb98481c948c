"""The tab "Stream" of Locust's web page: live figures that are not rounded, warm beside cold, with the verdict so far.

Locust 2.47 offers `extended_tabs` and `extended_tables` (template_args of its page, filled from what is added to
/stats/requests as `extended_stats`): one flat table a tab, sorted by `name`, no headings, no text, and it is only asked
for while users run. That is too little for a phase beside a phase and a verdict. So the tab is announced there, without
a table, and shows a page of our own: /stream, which asks /stream.json each second and writes what it gets as text,
never as markup: names of models and errors come from servers.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import gevent
import msgspec
from dlclient.statistics import PERCENTILE_FLOORS
from jinja2 import Environment, PackageLoader, StrictUndefined

from dlload.live import Live
from dlload.live_figures import NOTHING, Snapshot, snapshot

TAB = {"title": "Stream", "key": "stream"}
_FRESH_S = 0.5
"""However many look, the figures are computed twice a second at most."""


class WebUI(Protocol):
    """What is used of locust.web.WebUI. `app` is a flask.Flask."""

    app: Any
    template_args: dict[str, Any]

    def auth_required_if_enabled(self, view_func: Callable[[], Any]) -> Callable[[], Any]:
        """Wrap a view, so that it asks for a login where the page does."""


class WebTab:
    """`attach` it to Locust's page before that starts to serve; `live` gives the run to show, or None."""

    def __init__(self, live: Callable[[], Live | None]) -> None:
        self._live = live
        self._kept: Snapshot = NOTHING
        self._kept_at = float("-inf")
        self._busy = False
        self._templates = Environment(
            loader=PackageLoader("dlload", "templates"), autoescape=True, undefined=StrictUndefined
        )

    def attach(self, web_ui: WebUI) -> None:
        """Add the tab and its routes."""
        prefix = web_ui.app.blueprints["locust"].url_prefix or ""  # --web-base-path
        tabs = [tab for tab in web_ui.template_args.get("extended_tabs", []) if tab["key"] != TAB["key"]]
        web_ui.template_args["extended_tabs"] = [*tabs, TAB]
        for path, name, view in (
            ("/stream", "stream_page", self._page),
            ("/stream.json", "stream_figures", self._figures),
            ("/stream.js", "stream_tab", self._script),
        ):
            web_ui.app.add_url_rule(prefix + path, name, web_ui.auth_required_if_enabled(view))
        script = f'<script src="{prefix}/stream.js"></script></body>'.encode()
        response_class = web_ui.app.response_class

        @web_ui.app.after_request  # type: ignore[untyped-decorator]  # flask's, seen through Any
        def show(response: Any) -> Any:
            """Locust's own page gets the script that shows ours under the tab."""
            if isinstance(response, response_class) and response.mimetype == "text/html" and not response.is_streamed:
                page = response.get_data()
                if b"window.templateArgs" in page and b"extended_tabs" in page:
                    response.set_data(page.replace(b"</body>", script, 1))
            return response

    def _page(self) -> str:
        return self._templates.get_template("stream.html").render(
            floors={f"p{fraction * 100:g}": floor for fraction, floor in PERCENTILE_FLOORS.items() if fraction < 0.999}
        )

    def _script(self) -> tuple[str, dict[str, str]]:
        source, *_ = self._templates.loader.get_source(self._templates, "tab.js")  # type: ignore[union-attr]  # set above
        return source, {"Content-Type": "text/javascript; charset=utf-8"}

    def _figures(self) -> tuple[bytes, dict[str, str]]:
        return msgspec.json.encode(self._snapshot()), {
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
        }

    def _snapshot(self) -> Snapshot:
        """A fresh one, unless there is one of this moment or somebody else is at it."""
        if not self._busy and perf_counter() - self._kept_at > _FRESH_S:
            self._busy = True
            try:
                live = self._live()
                self._kept = NOTHING if live is None else snapshot(live, lambda: gevent.sleep(0))
                self._kept_at = perf_counter()
            finally:
                self._busy = False
        return self._kept
