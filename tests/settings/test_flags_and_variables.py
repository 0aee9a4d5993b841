"""Flag > variable > file, and unknown ones named with the nearest."""

import os

from ingressd.settings.load import parse_config
from ingressd.settings.overlay import OPTIONS, command_value


def read(text="", *, environ=None, flags=None):
    return parse_config(text.encode(), path="/c/c.yaml", environ=environ or {}, flags=flags or {}, workers=1)


def test_flag_wins_over_variable_and_variable_over_file():
    file, environ, flags = "zone: file\n", {"INGRESSD_ZONE": "variable"}, {"zone": "flag"}
    assert read(file).config.zone == "file"
    assert read(file, environ=environ).config.zone == "variable"
    assert read(file, environ=environ, flags=flags).config.zone == "flag"


def test_nested_keys_keep_their_neighbours():
    config = read("accessLog: {format: text, path: a}\n", flags={"access-log-path": ""}).config
    assert (config.access_log.path, config.access_log.format) == ("", "text")


def test_relative_paths_of_flags_start_where_the_command_does():
    config = read(flags={"manifests": "k8s, /abs", "access-log-path": "a.log"}).config
    assert config.manifests == (os.path.abspath("k8s"), "/abs")
    assert config.access_log.path == os.path.abspath("a.log")


def test_namespaces_are_a_list_of_names_not_of_paths():
    config = read("kubernetes: {inCluster: true}\n", environ={"INGRESSD_KUBERNETES_NAMESPACES": "shop, blog"}).config
    assert config.kubernetes.namespaces == ("shop", "blog")


def test_unknown_variable_is_an_error_that_names_the_nearest():
    loaded = read(environ={"INGRESSD_WORKRS": "2", "HOME": "/"})
    assert loaded.config is None
    assert [str(p) for p in loaded.problems] == [
        "error: INGRESSD_WORKRS: unknown variable; did you mean 'INGRESSD_WORKERS'?"
    ]


def test_unknown_flag():
    assert "--zon: unknown flag; did you mean 'zone'?" in str(read(flags={"zon": "a"}).problems[0])


def test_a_wrong_value_names_the_flag_or_variable():
    assert str(read(flags={"workers": "many"}).problems[0]).startswith("error: --workers: expected a whole number")
    assert str(read(environ={"INGRESSD_LOG_LEVEL": "x"}).problems[0]).startswith("error: INGRESSD_LOG_LEVEL: expected")


def test_links_that_kubelet_sets_for_a_service_of_our_name_are_no_mistake():
    links = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR"]
    environ = {f"INGRESSD_{name}": "tcp://10.0.0.1:80" for name in links}
    environ["INGRESSD_ADMIN_SERVICE_HOST"] = "10.0.0.1"
    assert read(environ=environ).problems == ()


def test_every_option_has_a_variable_and_sets_what_it_says():
    assert {option.variable for option in OPTIONS} >= {"INGRESSD_WORKERS", "INGRESSD_ACCESS_LOG_PATH"}
    config = read(flags={"workers": "7", "admin-address": "127.0.0.1:1", "log-level": "debug"}).config
    assert (config.workers, config.admin.port, config.log.level) == (7, 1, "debug")


def test_a_commands_own_flag():
    environ = {"INGRESSD_CONFIG": "from variable"}
    assert command_value("config", environ=environ, flag=None) == "from variable"
    assert command_value("config", environ=environ, flag="given") == "given"
    assert command_value("config", environ={}, flag=None) is None
    assert read(environ=environ).problems == ()
