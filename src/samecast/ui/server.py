"""The server: loopback alone, files of the root alone, and nothing from anywhere else.

Beside Gradio's own routes there are a few plain ones, which a page asks while a run goes on: they cost no place in
Gradio's queue, so a slow render never keeps a page from being drawn, stopped or reloaded.
"""

import base64
import io
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from samecast.cli.console import RESULTS
from samecast.cli.options.ui import UiOptions
from samecast.errors import SamecastError, lacking
from samecast.ui.place import MOST_BYTES, Root
from samecast.ui.studio import Studio

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("GRADIO_TEMP_DIR", tempfile.mkdtemp(prefix="samecast-ui-"))
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
try:
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.responses import FileResponse, JSONResponse, Response
    from starlette.datastructures import MutableHeaders
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as error:
    raise lacking("ui", error) from None

HOST = "127.0.0.1"
_LOCAL = {"127.0.0.1", "localhost", "[::1]"}
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; form-action"
    " 'self'; frame-ancestors 'self'"
)
_ALONE = "default-src 'self' 'unsafe-inline' data:; sandbox allow-scripts allow-popups"
"""For pages of studies, which are files like any others."""


def make_app(studio: Studio) -> FastAPI:
    """The server's routes, and the page at its root."""
    from samecast.ui.page import build_page, page_style

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(Guard)

    @app.exception_handler(SamecastError)
    async def refused(request: Request, error: SamecastError) -> Response:
        return JSONResponse({"detail": str(error)}, 404)

    @app.get("/model")
    def model() -> dict[str, Any]:
        jobs = studio.jobs
        return {"name": Path(studio.name).name, "ready": jobs.ready.is_set() and not jobs.fault, "fault": jobs.fault}

    @app.get("/job/{name}")
    def job(name: str, shots: int = -1) -> Response:
        found = studio.jobs.get(name)
        if found is None:
            return JSONResponse(None, 404)
        data: dict[str, Any] = {
            **{key: getattr(found, key) for key in ("state", "stage", "done", "total", "error", "shots", "seconds")},
            "ahead": studio.jobs.ahead(found) if found.state == "waiting" else 0,
        }
        if found.shots != shots and found.previews:
            data["previews"] = [_data_url(picture) for picture in found.previews]
        return JSONResponse(data)

    @app.post("/job/{name}/stop")
    def stop(name: str, request: Request) -> Response:
        found = studio.jobs.get(name)
        if found is None or "x-samecast" not in request.headers:
            return JSONResponse(None, 404)
        found.stop()
        return JSONResponse({})

    @app.get("/mine")
    def mine(kind: str, owner: str, page: str) -> dict[str, Any]:
        found = studio.jobs.of_page(kind, owner, page)
        return {"id": found.id if found else None}

    _add_files(app, studio.root)
    page = build_page(studio)
    page.queue(default_concurrency_limit=8)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=HOST,
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size=MOST_BYTES,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        **page_style(),
    )
    return app


class Guard:
    """Refuses what pages from elsewhere ask, or under another host's name; and lets no page load from elsewhere.

    Args:
        app: the application behind it, as ASGI has it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 403."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get("host", ""), headers.get("origin")
        if (host.rsplit(":", 1)[0] or "localhost") not in _LOCAL or origin not in (None, f"http://{host}"):
            await JSONResponse({"detail": "this page is for this machine alone"}, 403)(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                found.setdefault("Content-Security-Policy", _POLICY)
                found["X-Content-Type-Options"] = "nosniff"
                found["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self.app(scope, receive, answer)


def _add_files(app: FastAPI, root: Root) -> None:
    """The routes of files: pictures and pages to show, and whole runs to download."""

    @app.get("/file/{name:path}")
    def file(name: str) -> Response:
        found = root.readable(name)
        html = found.suffix.lower() == ".html"
        policy = {"Content-Security-Policy": _ALONE if html else "default-src 'none'; style-src 'unsafe-inline'"}
        return FileResponse(found, headers=policy)

    @app.get("/zip/{name:path}")
    def zipped(name: str) -> Response:
        content = root.zipped(name)
        title = name.rsplit("/", 1)[-1].encode("ascii", "replace").decode().replace('"', "_")
        headers = {"Content-Disposition": f'attachment; filename="{title}.zip"'}
        return Response(content, media_type="application/zip", headers=headers)


class Server:
    """The page on its port, in a thread of its own.

    Args:
        studio: what it serves.
        port: 0 takes a free one.

    Raises:
        SamecastError: the port is taken.
    """

    def __init__(self, studio: Studio, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, port))
        except OSError:
            self._socket.close()
            raise SamecastError(f"port {port} is taken: give another --port, or 0 for a free one") from None
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(make_app(studio), log_level="error", lifespan="on"))
        self._studio = studio
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        self._server.run([self._socket])

    def start(self) -> None:
        """Serves; and only then loads the model, so that the page is there at once."""
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(0.02)
        self._studio.jobs.start()

    def wait(self) -> None:
        """Until it is stopped."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def stop(self) -> None:
        """Ends it; runs that go on end with the process."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(5)


def serve(options: UiOptions) -> None:
    """Serves the page until it is interrupted; errors as for `Server`, and for the root folder."""
    studio = Studio(Root(options.root), options.model, options.device, options.dtype)
    server = Server(studio, options.port)
    server.start()
    RESULTS.print(f"samecast is at {server.url} (Ctrl-C ends it)")
    try:
        server.wait()
    finally:
        server.stop()


def _data_url(picture: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
