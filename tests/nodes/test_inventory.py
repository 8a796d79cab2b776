"""Which nodes a master URL, or a file, names; what is wrong in one is said with its place and what is expected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.backends.ssh.nodes import MOST, Node, parse_nodes
from asparkle.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "nodes"),
    [
        ("ssh://alpha", [Node("alpha", "alpha")]),
        ("SSH://alpha", [Node("alpha", "alpha")]),
        (" ssh://alpha, beta ", [Node("alpha", "alpha"), Node("beta", "beta")]),
        ("ssh://me@alpha:2222*8", [Node("alpha:2222", "me@alpha", 2222, 8)]),
        ("ssh://alpha*2", [Node("alpha", "alpha", None, 2)]),
        ("ssh://me@corp.example@alpha", [Node("alpha", "me@corp.example@alpha")]),
        (r"ssh://CORP\me@alpha", [Node("alpha", r"CORP\me@alpha")]),
        ("ssh://10.0.0.[1-2]", [Node("10.0.0.1", "10.0.0.1"), Node("10.0.0.2", "10.0.0.2")]),
        ("ssh://[::1]", [Node("::1", "::1")]),
        ("ssh://::1", [Node("::1", "::1")]),
        ("ssh://me@[fe80::1%eth0]:22*3", [Node("[fe80::1%eth0]:22", "me@fe80::1%eth0", 22, 3)]),
        ("ssh://me@n[8-10]:22*3", [Node(f"n{n}:22", f"me@n{n}", 22, 3) for n in ("8", "9", "10")]),
        ("ssh://n[08-10]", [Node(f"n{n}", f"n{n}") for n in ("08", "09", "10")]),
        ("ssh://n[1, 3-4].x,m", [Node(n, n) for n in ("n1.x", "n3.x", "n4.x", "m")]),
        ("ssh://r[1-2]n[1-2]", [Node(n, n) for n in ("r1n1", "r1n2", "r2n1", "r2n2")]),
        ("ssh://a:1,a:2", [Node("a:1", "a", 1), Node("a:2", "a", 2)]),
    ],
)
def test_hosts_in_a_url(url: str, nodes: list[Node]) -> None:
    assert parse_nodes(url) == tuple(nodes)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ssh://", "no nodes; expected ssh://host,host or ssh:nodes.toml"),
        ("ssh://a,,b", "node '': host = '': expected a host's name or address"),
        ("ssh://a,", "node '': host = ''"),
        ("ssh://a/", "host 'a/': expected letters"),
        ("ssh://a b", "host 'a b': expected letters"),
        ("ssh://-oProxyCommand=x", "no '-' in front"),
        ("ssh://-x@a", "host '-x@a'.*no '-' in front"),
        ("ssh://@a", "host '@a'"),
        ("ssh://a$(x)", "expected letters"),
        ("ssh://a:0", "node 'a:0': port = 0: expected a whole number from 1 to 65535"),
        ("ssh://a:65536", "port = 65536"),
        ("ssh://a:ssh", "port = 'ssh'"),
        ("ssh://a:", "port = ''"),
        ("ssh://a:22:23", r"host 'a:22:23'.*\[::1\]:22 for IPv6"),
        ("ssh://[::x]", r"\[::x\] is no IPv6 address, and no range"),
        ("ssh://[01:05]", r"\[01:05\] is no IPv6 address, and no range of numbers such as \[01-16\]"),
        ("ssh://a*10001", r"slots = 10001: expected a whole number from 1 to 10000"),
        ("ssh://a*0", r"node 'a\*0': slots = 0: expected a whole number from 1 to 10000"),
        ("ssh://a*", "slots = ''"),
        ("ssh://a*2*3", r"slots = '2\*3'"),
        ("ssh://a*١", "slots = '١'"),
        ("ssh://n[a-c]", r"range \[a-c\]: 'a-c': expected numbers"),
        ("ssh://n[]", r"range \[\]: '': expected numbers"),
        ("ssh://n[1,]", r"range \[1,\]: '': expected numbers"),
        ("ssh://n[1-2-3]", "'1-2-3': expected numbers"),
        ("ssh://n[01:05]", "'01:05': expected numbers"),
        ("ssh://n[16-01]", "'16-01' ends before it begins: write 01-16"),
        ("ssh://n[1-010]", r"'1-010': expected as many digits at both ends"),
        ("ssh://n[1-4", "expected ranges in pairs of brackets"),
        ("ssh://n1-4]", "expected ranges in pairs of brackets"),
        ("ssh://n[1-999999999]", f"expected {MOST} numbers at most"),
        ("ssh://n[1-5000]m[1-5000]", f"that is 25000000 nodes; expected {MOST} at most"),
        ("ssh://n[1-6000],m[1-6000]", f"12000 nodes; expected {MOST} at most"),
        ("ssh://a,b,a", r"2 nodes are called 'a'; for more slots write a\*2"),
        ("ssh://n[1-4,3]", "2 nodes are called 'n3'"),
        ("ssh://nodes.toml", "for a file write ssh:nodes.toml"),
        ("ssh:alpha,beta", "can't read 'alpha,beta': No such file.*ssh://host,host for hosts"),
        ("ssh:", "can't read ''"),
    ],
)
def test_what_is_wrong_in_a_url_is_said(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        parse_nodes(url)
    assert url in str(caught.value)


@pytest.mark.parametrize("url", ["ssh://me:s3cret@a", "ssh://b,me:s3/c:r@ecret@a:22"])
def test_a_password_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="ssh takes none: use a key") as caught:
        parse_nodes(url)
    assert "cret" not in str(caught.value) and "s3" not in str(caught.value)


hosts = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,10}", fullmatch=True).filter(lambda host: not host.endswith(".toml"))
ports, slots = (st.none() | st.integers(1, most) for most in (65535, 1000))


@given(st.lists(st.tuples(hosts, ports, slots), min_size=1, max_size=8, unique_by=lambda node: (node[0], node[1])))
def test_what_is_written_is_read(items: list[tuple[str, int | None, int | None]]) -> None:
    text = ",".join(
        f"me@{host}{'' if port is None else f':{port}'}{'' if count is None else f'*{count}'}"
        for host, port, count in items
    )
    assert [(n.host, n.port, n.slots) for n in parse_nodes(f"ssh://{text}")] == [(f"me@{h}", p, c) for h, p, c in items]


@given(st.integers(0, 2000), st.integers(0, 50), st.integers(1, 6))
def test_a_range_has_all_its_numbers_in_order_with_as_many_digits(first: int, more: int, width: int) -> None:
    ends = [str(number).zfill(width) for number in (first, first + more)]
    if len(ends[0]) != len(ends[1]) and ends[0].startswith("0"):
        with pytest.raises(ConfigurationError, match="as many digits"):
            parse_nodes(f"ssh://n[{'-'.join(ends)}]")
    else:
        found = [node.host for node in parse_nodes(f"ssh://n[{'-'.join(ends)}]")]
        assert found == [f"n{str(number).zfill(width)}" for number in range(first, first + more + 1)]


@given(st.text(alphabet="a1-,[]:*@. \\é/\n", max_size=20))
def test_any_text_gives_nodes_or_a_configuration_error(text: str) -> None:
    try:
        nodes = parse_nodes(f"ssh://{text}")
    except ConfigurationError:
        return
    assert len({node.name for node in nodes}) == len(nodes)
    for node in nodes:
        assert not node.host.startswith("-") and not any(c.isspace() for c in node.host)


# ------------------------------------------------------------------------------------------------------------- files


def in_file(tmp_path: Path, text: str) -> tuple[Node, ...]:
    path = tmp_path / "nodes.toml"
    path.write_text(text)
    return parse_nodes(f"ssh:{path}")


def test_a_file_has_defaults_and_tables(tmp_path: Path) -> None:
    first, second, gpu = in_file(
        tmp_path,
        """
        [defaults]
        python = "python3.11"
        slots = 2
        environment = { OMP_NUM_THREADS = "1", LANG = "C" }
        labels = { zone = "a" }

        [[nodes]]
        host = "me@node[01-02]"
        slots = 8
        environment = { LANG = "C.UTF-8" }

        [[nodes]]
        host = "gpu.example.com"
        name = "gpu"
        port = 2222
        python = "~/venv/bin/python"
        directory = "/scratch"
        labels = { accelerator = "a100" }
        """,
    )
    assert (first.name, first.host, first.slots, first.python) == ("node01", "me@node01", 8, "python3.11")
    assert first.environment == {"OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
    assert second == first._replace(name="node02", host="me@node02")
    environment, labels = {"OMP_NUM_THREADS": "1", "LANG": "C"}, {"zone": "a", "accelerator": "a100"}
    python = "~/venv/bin/python"
    assert gpu == Node("gpu", "gpu.example.com", 2222, 2, python, environment, "/scratch", labels)


def test_nodes_in_a_file_may_be_texts_as_in_a_url(tmp_path: Path) -> None:
    text = 'nodes = ["alpha", "me@beta:2222*8", { host = "n[1-2]", name = "m[3-4]" }]\n[defaults]\nslots = 3'
    found = [(node.name, node.host, node.port, node.slots) for node in in_file(tmp_path, text)]
    expected = [("alpha", "alpha", None, 3), ("beta:2222", "me@beta", 2222, 8)]
    assert found == [*expected, ("m3", "n1", None, 3), ("m4", "n2", None, 3)]


def test_a_file_is_found_in_the_working_directory_and_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nodes.toml").write_text('nodes = ["alpha"]')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_nodes("ssh:nodes.toml") == parse_nodes("ssh:~/nodes.toml") == (Node("alpha", "alpha"),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no nodes"),
        ("nodes = []", "no nodes"),
        ("[[nodes]", r"nodes.toml: .*line 1.*expected TOML: \[defaults\] and \[\[nodes\]\]"),
        ("[[hosts]]\nhost = 'a'", "unknown key 'hosts'; known are defaults, nodes"),
        ("defaults = 3", r"defaults = 3: expected a table \[defaults\]"),
        ("[nodes]\nhost = 'a'", r"nodes = {'host': 'a'}: expected tables \[\[nodes\]\], with two brackets"),
        ("nodes = [3]", r"node 1: 3: expected a table \[\[nodes\]\], or a text"),
        ("nodes = ['a', 'b*x']", r"node 2 \(b\*x\): slots = 'x': expected a whole number from 1 to 10000"),
        ("[[nodes]]\nslots = 3", "node 1: no host; expected a host's name"),
        ("[[nodes]]\nhost = 3", "node 1: host = 3: expected a host's name"),
        ("[[nodes]]\nhost = 'a'\nslot = 3", r"node 1 \(a\): unknown key 'slot'; known are host, name, port, slots"),
        ("[[nodes]]\nhost = 'a:22'", r"node 1 \(a:22\): host 'a:22'.*port = 22 in a file"),
        ("[[nodes]]\nhost = 'me:secret@a'", r"node 1 \(me:\*\*\*@a\): a password"),
        ("[[nodes]]\nhost = 'a'\nport = '22'", "port = '22': expected a whole number from 1 to 65535"),
        ("[[nodes]]\nhost = 'a'\nslots = true", "slots = True: expected a whole number from 1 to 10000"),
        ("[[nodes]]\nhost = 'a'\nslots = 1.5", "slots = 1.5: expected a whole number"),
        (f"[[nodes]]\nhost = 'a'\nname = '{'ä' * 128}'", "the name 'ä+'... is longer than 255 bytes"),
        ("[[nodes]]\nhost = 'a'\nname = 'a b'", "name = 'a b': expected a name without spaces"),
        ("[[nodes]]\nhost = 'a'\nname = ''", "name = ''"),
        (
            "[[nodes]]\nhost = 'n[1-2]'\nname = 'm'",
            "is for 1, host = .* for 2; expected a range of as many, or no name",
        ),
        ("[[nodes]]\nhost = 'a'\npython = ''", "python = '': expected the name or the path"),
        ("[[nodes]]\nhost = 'a'\npython = '-m'", "python = '-m': expected the name or the path"),
        ('[[nodes]]\nhost = "a"\npython = "it\'s"', "python = .*: expected the name or the path"),
        ("[[nodes]]\nhost = 'a'\nenvironment = ['A=1']", "environment = .*: expected a table of variables"),
        ("[[nodes]]\nhost = 'a'\nenvironment = { A = 1 }", "environment = {'A': 1}: expected a table of variables as"),
        ("[[nodes]]\nhost = 'a'\nenvironment = { 'A=' = '1' }", "environment = {'A=': '1'}"),
        ("[[nodes]]\nhost = 'a'\ndirectory = 'tmp'", "directory = 'tmp': expected a path that begins with / or ~/"),
        ("[[nodes]]\nhost = 'a'\nlabels = { gpu = true }", "labels = .*: expected a table of texts"),
        ("nodes = ['a']\n[defaults]\nhost = 'b'", r"\[defaults\]: unknown key 'host'; known are port, slots"),
        ("nodes = ['a']\n[defaults]\nslots = 0", r"\[defaults\]: slots = 0"),
        ("nodes = ['a', 'a']", "2 nodes are called 'a'.*slots = 2 in a file"),
        ("nodes = ['a']\n[[nodes]]\nhost = 'b'", "expected TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        in_file(tmp_path, text)
    assert "nodes.toml" in str(caught.value) and "secret" not in str(caught.value)


def test_a_file_that_is_not_there_or_is_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ssh:no\.toml.*can't read 'no.toml': No such file"):
        parse_nodes("ssh:no.toml")
    with pytest.raises(ConfigurationError, match="can't read .*: Is a directory"):
        parse_nodes(f"ssh:{tmp_path}")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"binary\.toml: .*expected TOML"):
        parse_nodes(f"ssh:{tmp_path}/binary.toml")


def test_every_key_of_a_node_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "ssh.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == {*Node._fields}
