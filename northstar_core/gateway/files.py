"""Files that only their owner may see: written whole or not at all, and refused when others could read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from northstar_core.model.errors import SettingsError

LARGEST = 65_536


def private_folder(path: Path) -> Path:
    """Return a folder nobody else may look into, made where there is none.

    Raises
    ------
    SettingsError
        If it cannot be made, or belongs to somebody else.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be made: {error.strerror}") from None
    if found.st_uid != os.geteuid():
        raise SettingsError(f"{path}: belongs to another user; choose another NORTHSTAR_HOME")
    return path


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file by these bytes at once; nobody ever sees half of it, and others nothing."""
    private_folder(path.parent)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as out:
            os.fchmod(out.fileno(), mode)
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def write_new(path: Path, content: bytes, mode: int = 0o400) -> bool:
    """Write a file where there is none, whole at once; return whether it was written."""
    private_folder(path.parent)
    if path.exists():
        return False
    fresh = path.with_name(f".{path.name}.new-{os.getpid()}")
    write_private(fresh, content, mode)
    try:
        os.link(fresh, path)  # fails where another process was first
    except FileExistsError:
        return False
    finally:
        fresh.unlink(missing_ok=True)
    return True


def owned_secret(path: Path, *, where: str = "") -> bytes:
    """Return the content of a file that only its owner, who is us, may read.

    Raises
    ------
    SettingsError
        If it is not there, not a file, belongs to another user, is open to group or others (wanted: 0400 or 0600), empty, or large.
    """
    lead = f"{where}: " if where else ""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SettingsError(f"{lead}{path}: cannot be read: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        bits = stat.S_IMODE(found.st_mode)
        if not stat.S_ISREG(found.st_mode):
            raise SettingsError(f"{lead}{path}: is not a file")
        if found.st_uid != os.geteuid():
            raise SettingsError(f"{lead}{path}: belongs to another user; a secret's file is ours alone")
        if bits not in (0o400, 0o600):
            raise SettingsError(f"{lead}{path}: has mode {bits:04o}; a secret's file has 0400: chmod 400 {path}")
        content = os.read(descriptor, LARGEST + 1)
    finally:
        os.close(descriptor)
    if not content or len(content) > LARGEST:
        raise SettingsError(f"{lead}{path}: is {'empty' if not content else 'too large'}")
    return content
