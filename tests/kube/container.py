"""The inside of a container: `python -m kube.container SPEC`, run as the first process of new namespaces.

Builds a root of its own in memory from the machine's programs, this checkout and the pod's volumes, gives up what the
security context takes away, and becomes the program. SPEC is a JSON file, see `ContainerSpec`.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

_RDONLY, _REMOUNT, _BIND, _REC = 1, 32, 4096, 16384
_PROGRAMS = ("usr", "bin", "sbin", "lib", "lib64", "opt", "dev", "sys")
_SETTINGS = ("ld.so.cache", "passwd", "group", "nsswitch.conf", "ssl", "localtime", "alternatives", "mime.types")


@dataclass(frozen=True)
class ContainerSpec:
    """What a container is made of."""

    root: str
    """An empty folder."""
    command: list[str]
    environment: dict[str, str]
    mounts: list[tuple[str, str, bool]]
    """Folder of the machine, path in the container, read-only."""
    visible: list[str]
    """Folders that keep their path: the checkout, its virtual environment, the Python it was made from."""
    hosts: str
    """The content of /etc/hosts."""
    user: int | None
    group: int | None
    """None keeps the identity that the stage has."""
    extra_groups: list[int]
    drop_capabilities: bool
    read_only_root: bool

    def write(self, path: Path) -> None:
        """Write it for `main`."""
        path.write_text(json.dumps(asdict(self)))


def main(path: str) -> None:
    """Become the program."""
    spec = ContainerSpec(**json.loads(Path(path).read_text()))
    root = Path(spec.root)
    _mount("tmpfs", root, kind="tmpfs", options="mode=0755")
    for name in _PROGRAMS:
        _show(Path("/", name), root)
    (root / "proc").mkdir()
    _mount("proc", root / "proc", kind="proc")
    for folder in spec.visible:
        _show(Path(folder), root)
    for name in _SETTINGS:
        _show(Path("/etc", name), root)
    (root / "etc/hosts").write_text(spec.hosts)
    (root / "etc/resolv.conf").write_text("")
    for link, target in (("var/run", "/run"), ("run", None), ("tmp", None)):
        _make_link_or_folder(root / link, target)
    for source, inside, read_only in spec.mounts:
        target_path = _resolve(root, inside)
        target_path.mkdir(parents=True, exist_ok=True)
        _mount(source, target_path, flags=_BIND)
        if read_only:
            _mount("", target_path, flags=_BIND | _REMOUNT | _RDONLY)
    if spec.read_only_root:
        _mount("", root, flags=_BIND | _REMOUNT | _RDONLY)
    os.chroot(root)
    os.chdir("/")
    command = [*_privileges(spec), *spec.command]
    os.execve("/usr/bin/setpriv", command, spec.environment)


def _privileges(spec: ContainerSpec) -> list[str]:
    # The parent's death is asked for here, last: a change of user forgets it.
    command = ["setpriv", "--pdeathsig", "KILL"]
    if spec.user is not None:
        groups = ",".join(str(group) for group in [spec.group or 0, *spec.extra_groups])
        command += ["--reuid", str(spec.user), "--regid", str(spec.group or 0), "--groups", groups]
    if spec.drop_capabilities:
        command += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    return [*command, "--"]


def _show(path: Path, root: Path) -> None:
    """Let a file or folder of the machine appear under `root`, a symlink as what it is."""
    target = root / str(path).lstrip("/")
    if not os.path.lexists(path) or os.path.lexists(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        target.symlink_to(path.readlink())
    elif path.is_dir():
        target.mkdir()
        _mount(str(path), target, flags=_BIND | _REC)
    else:
        target.touch()
        _mount(str(path), target, flags=_BIND)


def _make_link_or_folder(path: Path, target: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if target is None:
        path.mkdir(exist_ok=True)
    else:
        path.symlink_to(target)


def _resolve(root: Path, inside: str) -> Path:
    """A path in the container as seen from outside; /var/run is /run, as in every image."""
    if inside.startswith("/var/run/"):
        inside = inside.removeprefix("/var")
    return root / inside.lstrip("/")


_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: Path, *, kind: str = "", flags: int = 0, options: str = "") -> None:
    if _libc.mount(source.encode(), str(target).encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source or kind} on {target}: {os.strerror(number)}")


if __name__ == "__main__":
    main(sys.argv[1])
