import msgspec

from ingressd.model.units import HstsPolicy
from ingressd.protocol.fields import STRICT_TRANSPORT_SECURITY

replace = msgspec.structs.replace
DEFAULT = b"Strict-Transport-Security: max-age=31536000; includeSubDomains"


def test_added_over_tls(stage):
    response = stage.response("Content-Length: 0")
    stage.on_response(stage.request(scheme=b"https"), response)
    assert DEFAULT in response.fields


def test_not_over_http_even_when_a_proxy_before_us_did_tls(stage):
    response = stage.response("Content-Length: 0")
    stage.on_response(stage.request(scheme=b"http", forwarded_scheme=b"https"), response)
    assert response.fields == []


def test_upstreams_own_field_is_replaced(stage):
    response = stage.response("Strict-Transport-Security: max-age=3600; preload", "Content-Length: 0")
    stage.on_response(stage.request(scheme=b"https"), response)
    assert response.fields == [DEFAULT]
    assert STRICT_TRANSPORT_SECURITY not in (response.special or {})


def test_upstreams_own_field_stays_where_we_say_nothing(stage):
    for change in ({"process": replace(stage.process, hsts=None)}, {"route": replace(stage.route, has_tls=False)}):
        kept = {name: getattr(stage, name) for name in change}
        vars(stage).update(change)
        response = stage.response("Strict-Transport-Security: max-age=3600", "Content-Length: 0")
        stage.on_response(stage.request(scheme=b"https"), response)
        assert response.special == {STRICT_TRANSPORT_SECURITY: [b"max-age=3600"]}
        assert response.fields == []
        vars(stage).update(kept)


def test_answers_of_ours_carry_it(stage):
    assert stage.own_lines(stage.request(scheme=b"https")) == DEFAULT + b"\r\n"
    assert stage.own_lines(stage.request(scheme=b"http")) == b""


def test_all_of_the_policy(stage):
    stage.process = replace(stage.process, hsts=HstsPolicy(max_age_s=60, include_subdomains=False, preload=True))
    response = stage.response("Content-Length: 0")
    stage.on_response(stage.request(scheme=b"https"), response)
    assert response.fields == [b"Strict-Transport-Security: max-age=60; preload"]
