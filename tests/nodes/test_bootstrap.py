"""The driver's side of bootstrapping a node: any login shell, any Python, any pieces in which bytes arrive; and ssh."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asparkle.backends.ssh.archive import Archive
from asparkle.backends.ssh.bootstrap import GREETING, MAGIC, MOST, Bootstrap, command, ssh_command
from asparkle.backends.ssh.nodes import Node, parse_nodes
from asparkle.errors import ConfigurationError, NodeError

from .conversation import PYTHON, Conversation, echoing, ended, is_agent, local
from .hosts import Hosts

VERSION = "{}.{}".format(*sys.version_info)
INSTALL = f"install Python {VERSION} there, or name one that there is: `python` in a file of nodes"
HERE = Node("here", "me@there", 2222, python="python3")
ARCHIVE = Archive("0123", b"the archive")
GREETED = MAGIC + b"%d %d %d " % sys.version_info[:3] + sys.implementation.name.encode() + b"\n"

# -------------------------------------------------------------------------------------------------- the conversation


def said(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


@given(st.binary(max_size=40).filter(lambda b: MAGIC not in b), st.booleans(), st.binary(max_size=40), st.data())
def test_the_bytes_may_come_in_any_pieces(banner: bytes, cold: bool, rest: bytes, data: st.DataObject) -> None:
    answers = said({"send": True}) if cold else b""
    stream = banner + GREETED + answers + said({"facts": {"cpus": 3}})
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream)))) if data.draw(st.booleans()) else range(len(stream)))
    bootstrap = Bootstrap(HERE, ARCHIVE)
    sent = b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        piece = stream[start:end] + (rest if end == len(stream) else b"")
        if not bootstrap.done and piece:
            sent += bootstrap.feed(piece)
    assert bootstrap.done and bootstrap.facts == {"cpus": 3} and bootstrap.sent_archive == cold
    assert bootstrap.rest == rest
    whole = Bootstrap(HERE, ARCHIVE)
    assert sent == whole.feed(stream) and sent.endswith(ARCHIVE.data) == cold


@given(st.lists(st.binary(max_size=30) | st.sampled_from([GREETED, MAGIC, b"\n", b"{}", b"[1]", b'{"send": true}'])))
def test_any_bytes_are_taken_or_refused(pieces: list[bytes]) -> None:
    bootstrap = Bootstrap(HERE, ARCHIVE)
    with contextlib.suppress(NodeError):
        for piece in pieces:
            bootstrap.feed(piece)
        assert not bootstrap.done and bootstrap.facts == {}


def test_who_is_late_is_told_of_by_how_far_it_got() -> None:
    bootstrap = Bootstrap(HERE, ARCHIVE)
    works = "is it up, and does `ssh -p 2222 me@there` work, without a password\\?"
    assert re.fullmatch(f"no Python has answered within 30 s; {works}", bootstrap.late(30.0).reason)
    bootstrap.feed(b"Welcome!")
    assert re.fullmatch(f"no Python .* printed b'Welcome!'; {works}", bootstrap.late(30.0).reason)
    bootstrap.feed(GREETED)
    assert "was not ready within 2.5 s" in bootstrap.late(2.5).reason


@pytest.mark.parametrize(
    ("before", "says"),
    [(b"", f"greeting is not among the first {MOST} bytes.*shell printed b'Welcome!W"), (GREETED, "says b'Welcome!W")],
)
def test_what_never_becomes_an_answer_is_given_up(before: bytes, says: str) -> None:
    bootstrap = Bootstrap(HERE, ARCHIVE)
    bootstrap.feed(before)
    with pytest.raises(NodeError, match=f"^node 'here': .*{says}"):
        for _ in range(MOST // 8 + 1):
            assert bootstrap.feed(b"Welcome!") == b""


@pytest.mark.parametrize(
    "answer", [b"Traceback\n", b"\xff\n", b"[]\n", b"3\n", b"{}\n", said({"send": 1}), said({"facts": [1]})]
)
def test_what_is_no_answer_is_quoted(answer: bytes) -> None:
    bootstrap = Bootstrap(HERE, ARCHIVE)
    bootstrap.feed(GREETED)
    with pytest.raises(NodeError, match="^node 'here': says b'.* in place of an answer$"):
        bootstrap.feed(answer)


def test_the_archive_is_sent_once() -> None:
    bootstrap = Bootstrap(HERE, ARCHIVE)
    bootstrap.feed(GREETED + said({"send": True}))
    with pytest.raises(NodeError, match="in place of an answer"):
        bootstrap.feed(said({"send": True}))


def test_what_a_node_refuses_has_its_name_and_can_be_pickled() -> None:
    bootstrap = Bootstrap(HERE, ARCHIVE)
    with pytest.raises(NodeError) as caught:
        bootstrap.feed(GREETED + said({"refused": "no room; make some"}))
    error = pickle.loads(pickle.dumps(caught.value))
    assert str(error) == "node 'here': no room; make some"
    assert (error.node, error.reason) == ("here", "no room; make some")


@pytest.mark.parametrize(
    "greeting",
    ["2 7 18 cpython", "3 1 4 cpython", f"{VERSION.replace('.', ' ')} 0 pypy", "3", "", "\xff 3"],
)
def test_another_python_is_refused(greeting: str) -> None:
    with pytest.raises(NodeError) as caught:
        Bootstrap(HERE, ARCHIVE).feed(MAGIC + greeting.encode() + b"\n")
    assert "its python3 is " in caught.value.reason and f"install Python {VERSION} there" in caught.value.reason


@pytest.mark.parametrize(
    ("status", "stderr", "says"),
    [
        (255, b"ssh: no route\r\n", "ssh failed: ssh: no route; does `ssh -p 2222 me@there` work, without a password?"),
        (255, b"", "ssh failed: it does not say why; does"),
        (
            127,
            b"sh: python3: not found",
            "python3 can't be run there: sh: python3: not found; install",
        ),
        (126, b"sh: python3: Permission denied", "python3 can't be run there: sh: python3: Permission denied; install"),
        (1, b"python3: Command not found.", "python3 can't be run there: python3: Command not found.; install"),
        (3, b"", "ended with exit status 3 before asparkle ran there: it does not say why"),
        (-9, b"", "was killed by SIGKILL before asparkle ran there"),
        (1, b"\x1b[31mred\x07", "ended with exit status 1 before asparkle ran there: ?[31mred?"),
    ],
)
def test_a_connection_that_ends_says_why(status: int, stderr: bytes, says: str) -> None:
    error = Bootstrap(HERE, ARCHIVE).ended(status, stderr)
    assert error.node == "here" and error.reason.startswith(says)


def test_what_a_login_shell_printed_is_quoted_when_that_was_all() -> None:
    bootstrap = Bootstrap(HERE, ARCHIVE)
    bootstrap.feed(b"This account is not available.\n")
    error = bootstrap.ended(0, b"")
    assert error.reason.endswith(r"it does not say why; its login shell printed b'This account is not available.\n'")


# ------------------------------------------------------------------------------------------------ shells and Pythons


SHELLS = ("sh", "dash", "bash", "zsh", "ksh", "fish", "csh", "bsd-csh", "tcsh")


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no shell {request.param} here")
    return str(request.param)


def test_any_shell_runs_it(shell: str, tmp_path: Path) -> None:
    with local(tmp_path, shell=shell) as conversation:
        conversation.run()
        assert is_agent(conversation)


@pytest.mark.parametrize("path", ["~/bin/python-3", "~/my (own) $HOME & `x`;#*?[1]{a,b}/python", "{home}/a b/python"])
def test_any_path_of_a_python_is_found(shell: str, tmp_path: Path, path: str) -> None:
    name = path.replace("{home}", str(tmp_path))
    program = Path(name.replace("~", str(tmp_path)))
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {PYTHON} "$@"\n')
    program.chmod(0o700)
    with local(tmp_path, Node("here", "here", python=name), shell=shell) as conversation:
        conversation.run()
        assert is_agent(conversation)


@pytest.mark.parametrize("python", ["no-such-python", "/no/such/python", "~/no such python"])
def test_a_python_that_is_not_there_is_named(shell: str, tmp_path: Path, python: str) -> None:
    node = Node("here", "here", python=python)
    with pytest.raises(NodeError) as caught, local(tmp_path, node, shell=shell) as conversation:
        conversation.run()
    assert caught.value.reason.startswith(f"{python} can't be run there: ")
    assert caught.value.reason.endswith(f"; {INSTALL}")


def test_the_greeting_needs_no_quoting_but_single_quotes() -> None:
    assert not set(GREETING) & set("'\\!\n") and GREETING.isascii() and MAGIC.decode() not in GREETING


def other_pythons() -> list[str]:
    """Those of other versions that this machine has, from 2.7 on."""
    names = ["python2", *(f"python3.{minor}" for minor in range(4, 20))]
    found = [path for name in names if (path := shutil.which(name))]
    found += [str(path) for path in Path.home().glob(".pyenv/versions/*/bin/python")]
    versions = {version_of(path)[:2]: path for path in found}
    return [path for version, path in versions.items() if version not in ((), sys.version_info[:2])]


def version_of(python: str) -> tuple[int, ...]:
    program = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True)
    return tuple(map(int, done.stdout.split("."))) if done.returncode == 0 else ()


OTHERS = other_pythons()


@pytest.mark.skipif(not OTHERS, reason="there is no other Python here")
@pytest.mark.parametrize("python", OTHERS or [""])
def test_a_python_of_another_version_says_so(tmp_path: Path, python: str) -> None:
    with local(tmp_path, Node("here", "here", python=python)) as conversation, pytest.raises(NodeError) as caught:
        conversation.run()
    found = f"its {python} is cpython {'.'.join(map(str, version_of(python)))}"
    assert caught.value.reason == f"{found}, the driver's cpython {VERSION}: {INSTALL}"
    assert conversation.process.returncode == 0  # it has ended, quietly, as nothing more came


# ------------------------------------------------------------------------------------------------------------------ ssh


def test_the_command_line_of_ssh_has_the_users_options_first() -> None:
    settings = {"asparkle.ssh.command": "/opt/my ssh", "asparkle.ssh.options": "-F 'my config' -v"}
    found = ssh_command(HERE, settings)
    assert found[:6] == ["/opt/my ssh", "-p", "2222", "-F", "my config", "-v"]
    assert found[-5:] == ["--", "me@there", *command(HERE)]
    assert "BatchMode=yes" in found
    assert ssh_command(*parse_nodes("ssh://there"), {})[:2] == ["ssh", "-T"]


def test_options_that_no_shell_could_read_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"asparkle\.ssh\.options = \"-F 'x\": expected options as"):
        ssh_command(HERE, {"asparkle.ssh.options": "-F 'x"})


def over_ssh(
    made: Hosts, name: str, options: str = "", **fields: object
) -> contextlib.AbstractContextManager[Conversation]:
    node = Node(name, name, python=PYTHON)._replace(**fields)
    settings = {"asparkle.ssh.options": f"{options} -F {made.config} -o ConnectTimeout=10"}
    return ended(Conversation(node, ssh_command(node, settings)))


def test_nodes_have_nothing_but_python_and_become_agents(made: Hosts) -> None:
    for sent in (True, False):
        with contextlib.ExitStack() as stack:
            conversations = [stack.enter_context(over_ssh(made, host.name)) for host in made]
            for host, conversation in zip(made, conversations, strict=True):
                bootstrap = conversation.run()
                assert is_agent(conversation)
                assert bootstrap.sent_archive == sent
                assert bootstrap.facts["directory"] == f"{host.directory}/tmp"
                assert bootstrap.facts["code"] == f"{host.directory}/home/.cache/asparkle/{echoing().id}"
        assert not any(host.left() for host in made)


@pytest.fixture
def profile(made: Hosts) -> Iterator[Path]:
    """What node1's login shell runs first."""
    yield (path := made[0].directory / "home" / ".bashrc")
    path.unlink()


def test_what_a_login_shell_prints_is_skipped(made: Hosts, profile: Path) -> None:
    profile.write_text("echo Welcome to node1; head -c 60000 /dev/zero; echo -n no line end; echo oops >&2\n")
    with over_ssh(made, "node1") as conversation:
        conversation.run()
        assert is_agent(conversation)
    profile.write_text("yes Welcome | head -c 200000\n")
    with pytest.raises(NodeError, match=r"'node1': asparkle's greeting is not among.*shell printed b'Welcome"):
        with over_ssh(made, "node1") as conversation:
            conversation.run()


def test_a_link_that_goes_away_is_told_in_words_of_ssh(made: Hosts) -> None:
    with over_ssh(made, "node1") as conversation:
        conversation.send(conversation.hear())
        for pid in made[0].processes():
            os.kill(pid, 9)
        with pytest.raises(NodeError, match="'node1': "):
            while True:
                conversation.hear()


@pytest.mark.parametrize(
    ("options", "fields", "says"),
    [
        ("", {"host": "no-such-host.invalid"}, "Could not resolve hostname no-such-host.invalid"),
        ("", {"port": 1}, "connect to host .* port 1: Connection refused"),
        ("-o PubkeyAuthentication=no", {}, "Permission denied"),
        (
            "-o UserKnownHostsFile={other}",
            {},
            "REMOTE HOST IDENTIFICATION HAS CHANGED.*Host key verification",
        ),
        ("-o UserKnownHostsFile=/dev/null", {}, "Host key verification failed"),
        ("-o NoSuchOption=1", {}, "Bad configuration option: nosuchoption"),
    ],
    ids=["unknown", "refused", "denied", "changed", "unknown key", "bad option"],
)
def test_failures_of_ssh_are_told_in_its_own_words(
    made: Hosts, tmp_path: Path, options: str, fields: dict[str, object], says: str
) -> None:
    other = tmp_path / "known_hosts"
    other.write_text(f"{made[0].address} {(made[1].directory / 'host_key.pub').read_text()}")
    with pytest.raises(NodeError, match=f"(?s)^node 'node1': ssh failed: .*{says}") as caught:
        with over_ssh(made, "node1", options.format(other=other), **fields) as conversation:
            conversation.run()
    port = "-p 1 " if "port" in fields else ""
    assert caught.value.reason.endswith(f"; does `ssh {port}{fields.get('host', 'node1')}` work, without a password?")


def test_an_option_of_the_users_goes_before_asparkles_own(made: Hosts) -> None:
    with over_ssh(made, "node1", "-o LogLevel=DEBUG1 -o RemoteCommand=hostname") as conversation:
        with pytest.raises(NodeError, match="Cannot execute command-line and remote command"):
            conversation.run()


def test_forwardings_of_the_users_configuration_are_left_alone(made: Hosts) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = f"-o ExitOnForwardFailure=yes -o 'LocalForward={taken.getsockname()[1]} localhost:22'"
        with over_ssh(made, "node1", options) as conversation:
            conversation.run()
            assert is_agent(conversation)
