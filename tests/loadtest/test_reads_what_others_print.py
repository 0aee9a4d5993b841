"""The harness reads wrk, /proc, perf and strace; a wrong reading would be a wrong result, silently."""

import pytest

from loadtest import procfs, syscalls, wrk

WRK = """\
Running 3s test @ http://localhost:1/101
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.12ms  150.00us   9.90ms   95.00%
    Req/Sec    50.00k     1.00k   52.00k    80.00%
  Latency Distribution
     50%  803.00us
     75%    1.20ms
     90%    1.50ms
     99%    2.25s
  150000 requests in 3.01s, 30.00MB read
Requests/sec:  49833.89
Transfer/sec:      9.97MB
"""
TROUBLE = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 10\n"


def test_wrk_result_is_read_in_microseconds():
    report = wrk.parse(WRK)
    assert report == wrk.Report(150000, 3.01, 803.0, 2_250_000.0, 0)
    assert report.rps == pytest.approx(49833.89, rel=1e-3)


def test_wrk_errors_of_both_kinds_are_counted():
    assert wrk.parse(WRK + TROUBLE).errors == 20


@pytest.mark.parametrize(
    "text", ["", "unable to connect to localhost:1 Connection refused\n", WRK.partition("  150000")[0]]
)
def test_wrk_without_a_result_is_an_error_not_a_zero(text):
    with pytest.raises(ValueError, match="no result"):
        wrk.parse(text)


@pytest.mark.parametrize(
    ("text", "microseconds"), [("12.5us", 12.5), ("1.50ms", 1500.0), ("2.00s", 2e6), ("1.00m", 6e7), ("1.00h", 3.6e9)]
)
def test_wrk_durations_of_every_unit(text, microseconds):
    assert wrk.parse_duration_us(text) == pytest.approx(microseconds)


def test_wrk_duration_with_an_unknown_unit_is_refused():
    with pytest.raises(ValueError, match="not a duration"):
        wrk.parse_duration_us("5 parsecs")


def test_stat_of_a_process_with_spaces_and_parentheses_in_its_name():
    line = "42 (a) b (c)) S 7 42 42 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0 100 1000000 500 0"
    assert procfs.parse_stat(line) == procfs.Stat(parent=7, own_ticks=33, reaped_ticks=77)


def test_memory_is_the_line_asked_for():
    rollup = "00400000-7fff [rollup]\nRss:    2048 kB\nPss:    1024 kB\nPss_Dirty:    7 kB\n"
    assert procfs.parse_kib(rollup, "Pss") == 1024
    with pytest.raises(KeyError):
        procfs.parse_kib(rollup, "Ps")


def test_waiting_for_a_disk_is_not_busy():
    text = "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 10 1 5 100 50 2 3 4 9 9\ncpu1 7 0 0 7 0 0 0 0 0 0\n"
    assert procfs.parse_cpu_line(text, 0) == (25, 175)
    assert procfs.parse_cpu_line(text, 1) == (7, 14)


def test_a_tree_is_the_root_with_its_children_and_theirs():
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1}
    assert sorted(procfs.descendants(10, parents)) == [10, 11, 12]


def test_cpu_counts_threads_that_began_in_between():
    before = procfs.Cpu(100, {1: 1_000_000_000})
    after = procfs.Cpu(200, {1: 1_500_000_000, 2: 250_000_000})
    assert procfs.cpu_between(before, after) == pytest.approx(0.75)


def test_cpu_of_a_thread_that_ended_is_not_lost():
    before = procfs.Cpu(100, {1: 1_000_000_000, 2: 5_000_000_000})
    after = procfs.Cpu(100 + 3 * procfs.TICKS_PER_S, {1: 1_000_000_001})
    assert procfs.cpu_between(before, after) == pytest.approx(3.0)


PERF = """\
# started on Mon Jan  1 00:00:00 2024

2000,,raw_syscalls:sys_enter,1000,100.00,,
500,,syscalls:sys_enter_read,1000,100.00,,
700,,syscalls:sys_enter_writev,1000,100.00,,
<not supported>,,syscalls:sys_enter_futex,0,100.00,,
"""
STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.100000          10      2000           writev
 30.00    0.050000           5      1500       500 recvfrom
 10.00    0.010000           1        10           sendfile
------ ----------- ----------- --------- --------- ----------------
100.00    0.160000           4      3510       500 total
"""


def test_perf_counts_and_leaves_out_what_it_could_not_count():
    assert syscalls.parse_perf(PERF) == {"total": 2000, "read": 500, "writev": 700}


def test_strace_counts_with_and_without_errors():
    counts = {"writev": 2000, "recvfrom": 1500, "sendfile64": 10, "total": 3510}
    assert syscalls.parse_strace(STRACE) == counts


def test_syscalls_of_one_request():
    one = syscalls.per_request(
        {"total": 720, "read": 200, "writev": 200, "epoll_pwait": 10, "getpid": 100, "close": 0}, 100
    )
    assert (one["reads"], one["writes"], one["polls"], one["total"]) == (2.0, 2.0, 0.1, 7.2)
    assert one["others"] == {"getpid": 1.0}
