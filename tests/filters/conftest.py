"""Heads as the codec reads them, and the view of an exchange that filters get."""

from __future__ import annotations

import pytest

from ingressd.filters.registry import compile_filters
from ingressd.model.problem import Origin
from ingressd.model.units import ProcessPolicy, Route, RoutePolicy
from ingressd.protocol.h1 import HeadLimits, parse_request_head, parse_response_head


class View:
    """What `Forwarded` gives filters."""

    def __init__(self, head, *, scheme=b"http", forwarded_scheme=None, host=None):
        self.head = head
        self.scheme = scheme
        self.forwarded_scheme = forwarded_scheme or scheme
        self.host = head.host if host is None else host
        self.client_ip = "192.0.2.7"
        self.request_id = b"0123456789abcdef"


class Stage:
    """Compiles filters for a route and runs them."""

    def __init__(self):
        self.process = ProcessPolicy()
        self.policy = RoutePolicy()
        self.route = Route(
            origin=Origin("Ingress", "default", "shop"),
            path_type="Prefix",
            path="/",
            upstream="default/shop:80",
            has_tls=True,
        )

    def request(self, *lines, target="/", method="GET", version="1.1", **view):
        head = "\r\n".join([f"{method} {target} HTTP/{version}", *(lines or ["Host: shop.example"]), "", ""])
        return View(parse_request_head(head.encode(), HeadLimits()), **view)

    def response(self, *lines, status=200):
        head = "\r\n".join([f"HTTP/1.1 {status} OK", *lines, "", ""])
        return parse_response_head(head.encode(), method=b"GET", limits=HeadLimits())

    def on_request(self, view):
        for compiled in compile_filters(self.process, self.policy, self.route)[0]:
            answer = compiled.on_request(view)
            if answer is not None:
                return answer
        return None

    def on_response(self, view, response):
        transforms = [
            compiled.on_response(view, response)
            for compiled in compile_filters(self.process, self.policy, self.route)[1]
        ]
        return next((transform for transform in transforms if transform is not None), None)

    def own_lines(self, view):
        return b"".join(
            compiled.own_lines(view) for compiled in compile_filters(self.process, self.policy, self.route)[1]
        )


@pytest.fixture
def stage():
    return Stage()
