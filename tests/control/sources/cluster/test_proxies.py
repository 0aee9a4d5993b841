"""Proxy variables as Go's clients read them."""

import pytest

from ingressd.control.sources.cluster.proxies import proxy_for


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://10.96.0.1:443", {}, None),
        ("https://10.96.0.1:443", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://10.96.0.1:443", {"https_proxy": "p:1"}, "http://p:1"),
        ("https://10.96.0.1:443", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://10.96.0.1", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("https://127.0.0.1:1", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://localhost:1", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://[::1]:1", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://10.96.0.1", {"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}, None),
        ("https://10.96.0.1", {"HTTPS_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8"}, None),
        ("https://10.96.0.1", {"HTTPS_PROXY": "p:1", "no_proxy": "a, 10.96.0.1"}, None),
        ("https://10.96.0.1:6443", {"HTTPS_PROXY": "p:1", "NO_PROXY": "10.96.0.1:443"}, "http://p:1"),
        ("https://10.96.0.1", {"HTTPS_PROXY": "p:1", "NO_PROXY": "10.96.0.1:443"}, None),
        ("https://[fd00::1]", {"HTTPS_PROXY": "p:1", "NO_PROXY": "fd00::/8"}, None),
        ("https://[fd00::1]", {"HTTPS_PROXY": "p:1", "NO_PROXY": "[fd00::1]:443"}, None),
        ("https://[fd00::1]", {"HTTPS_PROXY": "p:1", "NO_PROXY": "fd00::2"}, "http://p:1"),
        ("https://api.example.com", {"HTTPS_PROXY": "p:1", "NO_PROXY": "example.com"}, None),
        ("https://api.EXAMPLE.com", {"HTTPS_PROXY": "p:1", "NO_PROXY": ".Example.com"}, None),
        ("https://example.com", {"HTTPS_PROXY": "p:1", "NO_PROXY": "example.com"}, None),
        ("https://badexample.com", {"HTTPS_PROXY": "p:1", "NO_PROXY": "example.com"}, "http://p:1"),
        ("https://example.com", {"HTTPS_PROXY": "p:1", "NO_PROXY": ".example.com"}, "http://p:1"),
        ("https://example.com", {"HTTPS_PROXY": "p:1", "NO_PROXY": "10.0.0.0/99,,"}, "http://p:1"),
    ],
)
def test_which_proxy(url, environ, proxy):
    assert proxy_for(url, environ) == proxy
