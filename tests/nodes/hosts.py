"""Several hosts on one machine: network namespaces on a bridge, with a real sshd in each.

Each host has its own name, address, host key, ``authorized_keys``, home and temporary directory; the driver's side is
the machine itself, which has an address on the bridge too.  They share this machine's files, but for directories that
are hidden from them, and, where it is limited, the space that their temporary directories have.  Needs root, and
Debian's iproute2 and openssh-server.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from waiting import wait_until

SSHD = next((p for p in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if Path(p).exists()), None)
_numbers = itertools.count()


@functools.cache
def missing() -> str:
    """Why there can be no hosts here; empty if there can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "needs the program ip: Debian's iproute2"
    if SSHD is None or shutil.which("ssh-keygen") is None:
        return "needs the program sshd: Debian's openssh-server"
    probe = f"asparkle-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode != 0:
        return "this machine lets nobody make network namespaces"
    run("ip", "netns", "del", probe)
    return ""


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


@dataclass
class Host:
    """One of the hosts: ``name`` is what the ssh configuration calls it."""

    name: str
    address: str
    namespace: str
    link: str  # its end on the bridge
    directory: Path
    mounts: list[str] = field(default_factory=list)  # commands
    sshd: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def execute(self, *command: str, check: bool = True) -> str:
        """What a command prints that runs on the host."""
        return run("ip", "netns", "exec", self.namespace, *command, check=check)

    def start(self) -> None:
        assert SSHD is not None
        command = ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "--mount", "sh", "-ec"]
        mounts = "".join(f"{mount}; " for mount in self.mounts)
        serve = f"{mounts}hostname {self.name}; exec {SSHD} -D -e -f {self.directory}/sshd_config"
        log = (self.directory / "sshd.log").open("ab")
        with log:
            self.sshd = subprocess.Popen([*command, serve], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def processes(self) -> list[int]:
        """Those that live in its network, sshd's own left out."""
        found = [int(pid) for pid in run("ip", "netns", "pids", self.namespace).split()]
        return [pid for pid in found if "sshd" not in _name(pid)]

    def power_off(self) -> None:
        """All of its processes die at once, and nobody is told."""
        self.disconnect()
        for pid in run("ip", "netns", "pids", self.namespace).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if self.sshd is not None:
            self.sshd.wait()
            self.sshd = None
        wait_until(lambda: not self.processes())  # killed, a process takes a moment to go

    def disconnect(self) -> None:
        """Nothing arrives there, and nothing comes from there."""
        run("ip", "link", "set", self.link, "down")

    def connect(self) -> None:
        run("ip", "link", "set", self.link, "up")

    @property
    def temporary(self) -> Path:
        """Its temporary directory, as it sees it: with what is mounted there."""
        root = "" if self.sshd is None else f"/proc/{self.sshd.pid}/root"
        return Path(f"{root}{self.directory}/tmp")

    def left(self) -> list[str]:
        """The files that are in its temporary directory."""
        root = self.temporary
        found = []
        for directory, names, files in os.walk(root):  # what goes away meanwhile is passed over
            found += [os.path.relpath(os.path.join(directory, name), root) for name in (*names, *files)]
        return sorted(found)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "sshd"  # gone


@dataclass
class Hosts:
    """``config``: an ssh configuration that knows the hosts by name, and checks their keys."""

    hosts: list[Host]
    config: Path
    directory: Path

    def __getitem__(self, number: int) -> Host:
        return self.hosts[number]

    def __iter__(self) -> Iterator[Host]:
        return iter(self.hosts)


@contextlib.contextmanager
def hosts(
    count: int, directory: Path, *, hidden: Iterable[Path] = (), space: Mapping[str, str] = {}
) -> Iterator[Hosts]:
    """``count`` hosts, named node1 and so on, for as long as they are needed.  Skips the test where there can be none.

    ``hidden``: directories that are empty for them.  ``space``: how much their temporary directories
    have, as in ``{"node1": "8m"}``.
    """
    if reason := missing():
        pytest.skip(f"no hosts here: {reason}")
    number = next(_numbers)
    tag = f"{os.getpid() % 100_000}-{number}"
    bridge = f"ab{tag}"[:15]
    made = Hosts([], directory / "ssh_config", directory)
    undo = contextlib.ExitStack()
    with undo:
        run("ip", "link", "add", bridge, "type", "bridge")
        undo.callback(run, "ip", "link", "del", bridge, check=False)
        net = _give_addresses(bridge)
        run("ip", "link", "set", bridge, "up")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "key"))
        for i in range(1, count + 1):
            host = _host(i, tag, net, directory / f"node{i}")
            made.hosts.append(host)
            undo.callback(_remove, host)
            _plug_in(host, bridge, net)
            _configure(host, directory)
            host.mounts += [f"mount -t tmpfs -o size=4k hidden {path}" for path in hidden]
            if host.name in space:
                host.mounts.append(f"mount -t tmpfs -o size={space[host.name]} limited {host.directory}/tmp")
            host.start()
        _write_config(made)
        for host in made:
            _wait_for(made, host)
        yield made


def _give_addresses(bridge: str) -> str:
    """A network that nobody else here has, though other tests may run at the same time; the driver's side is its .1."""
    with (Path(tempfile.gettempdir()) / "asparkle-test-networks.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        taken = run("ip", "-4", "-oneline", "addr")
        nets = (f"10.{second}.{third}" for second in range(200, 250) for third in range(256))
        net = next(net for net in nets if f" {net}.1/" not in taken)
        run("ip", "addr", "add", f"{net}.1/24", "dev", bridge)
    return net


def _host(i: int, tag: str, net: str, directory: Path) -> Host:
    for part in ("home", "tmp"):
        (directory / part).mkdir(parents=True)
    return Host(f"node{i}", f"{net}.{i + 1}", f"asparkle-{tag}-{i}", f"av{tag}-{i}"[:15], directory)


def _plug_in(host: Host, bridge: str, net: str) -> None:
    run("ip", "netns", "add", host.namespace)
    run("ip", "link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    run("ip", "link", "set", host.link, "master", bridge, "up")
    host.execute("ip", "link", "set", "lo", "up")
    host.execute("ip", "addr", "add", f"{host.address}/24", "dev", "eth0")
    host.execute("ip", "link", "set", "eth0", "up")
    host.execute("ip", "route", "add", "default", "via", f"{net}.1")


def _configure(host: Host, directory: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host.directory / "host_key"))
    authorized = host.directory / "authorized_keys"
    shutil.copy(directory / "key.pub", authorized)
    authorized.chmod(0o600)
    (host.directory / "sshd_config").write_text(
        f"ListenAddress {host.address}\nPort 22\nHostKey {host.directory}/host_key\nPidFile none\n"
        f"AuthorizedKeysFile {authorized}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "PermitRootLogin prohibit-password\nMaxStartups 100\n"
        f"SetEnv HOME={host.directory}/home TMPDIR={host.directory}/tmp\nSubsystem sftp internal-sftp\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd separates its privileges


def _write_config(made: Hosts) -> None:
    known = made.directory / "known_hosts"
    lines = [f"{host.address} {(host.directory / 'host_key.pub').read_text()}" for host in made]
    known.write_text("".join(lines))
    common = (
        f"  User root\n  IdentityFile {made.directory}/key\n  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n"
        "  StrictHostKeyChecking yes\n"
    )
    made.config.write_text("".join(f"Host {host.name}\n  HostName {host.address}\n{common}" for host in made))


def _wait_for(made: Hosts, host: Host) -> None:
    deadline = time.monotonic() + 20
    while True:
        options = ["-F", str(made.config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
        done = subprocess.run(["ssh", *options, host.name, "hostname"], capture_output=True, text=True)
        if done.stdout.strip() == host.name:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{host}: {done.stderr}{(host.directory / 'sshd.log').read_text()}")
        time.sleep(0.05)


def _remove(host: Host) -> None:
    with contextlib.suppress(AssertionError):
        host.power_off()
    run("ip", "link", "del", host.link, check=False)
    run("ip", "netns", "del", host.namespace, check=False)
