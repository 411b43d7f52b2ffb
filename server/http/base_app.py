"""What the apps of both ports have in common: ids in every response, and documentation where it is open."""

from typing import Any

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp

from server.http import openapi
from server.http.request_context import RequestContext


class App(FastAPI):
    """A FastAPI whose every response has the request's id, those of its own handlers of errors too.

    Args:
        docs: Serve /docs, /redoc and /openapi.json.
        answers_ids: Send `x-request-id`; the server that this app is a part of may do so itself.
    """

    def __init__(self, *, docs: bool, answers_ids: bool = True) -> None:
        urls: dict[str, Any] = {} if docs else {"docs_url": None, "redoc_url": None, "openapi_url": None}
        super().__init__(title="Decant", redirect_slashes=False, **urls)
        self.openapi_schema = openapi.document()
        self.answers_ids = answers_ids

    def build_middleware_stack(self) -> ASGIApp:
        paths = [route.path for route in self.routes if isinstance(route, Route)]
        return RequestContext(super().build_middleware_stack(), paths, answers=self.answers_ids)
