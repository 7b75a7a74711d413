"""As whom the embedded server runs: ourselves, or, where we are root, an unprivileged user. Standard library only.

Postgres refuses to run as root. The user we give it instead must reach its binaries and its data, which may both lie
in a folder only root may enter (a clone in root's home). So the server keeps, where it must and only then, the one
Linux capability that lets it pass: first ``CAP_DAC_READ_SEARCH`` (enter and read), else ``CAP_DAC_OVERRIDE`` (which
containers usually leave to root). Nothing is copied, no permission of any folder is changed.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pwd
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from northstar_core.model.errors import StoreError

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWUSER = 0x10000000
#: users a service manager hands out for a while (systemd's DynamicUser); nobody else owns files as one of them
_DYNAMIC_UIDS = range(61184, 65519)

_libc = ctypes.CDLL(None, use_errno=True)


class ServerUser(NamedTuple):
    """A Unix user, and the capability it keeps, if any."""

    uid: int
    gid: int
    capability: int | None = None

    def enter(self, dies_with_parent: signal.Signals | None = None) -> None:
        """Turn this process, freshly forked, into one of this user.

        With a signal, the kernel sends it to this process when its parent dies. Asked for last: changing the user
        forgets it.
        """
        if os.geteuid() == 0 and self.uid != 0:
            if self.capability is not None:
                _prctl(_PR_SET_KEEPCAPS, 1)
            os.setgroups([])
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
            if self.capability is not None:
                _keep_only(self.capability)
        os.umask(0o077)
        if dies_with_parent is not None and sys.platform == "linux":
            _prctl(_PR_SET_PDEATHSIG, int(dies_with_parent))

    def run(self, action: Callable[[], None]) -> bool:
        """Run an action in a process of this user, which it may replace; whether it ended well."""
        child = os.fork()
        if child == 0:
            try:
                self.enter()
                action()
                os._exit(0)
            except BaseException:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def nobody(self) -> ServerUser:
        """Return ``nobody`` with the same capability."""
        entry = pwd.getpwnam("nobody")
        return ServerUser(entry.pw_uid, entry.pw_gid, self.capability)

    def named(self) -> Callable[[], None]:
        """Return what makes a forked process into one of this user under a name, which ``initdb`` insists on.

        Root borrows ``nobody`` for it and gives the files to the right user afterwards. A plain user without an entry
        in the list of users (a container started with a bare uid) is ``nobody`` inside a user namespace of its own.
        """
        if os.geteuid() == 0:
            return self.nobody().enter
        try:
            pwd.getpwuid(self.uid)
        except KeyError:
            return _borrow_a_name
        return self.enter


def server_user(folder: Path, data: Path, bin_folder: Path) -> ServerUser:
    """Return the user for a server with these data and binaries.

    Raises
    ------
    StoreError
        If the data belong to another user, or no unprivileged user can be made to reach them.
    """
    owner = data.stat().st_uid if data.exists() else 0
    if os.geteuid() != 0:
        if data.exists() and owner != os.geteuid():
            raise StoreError(f"{data} belongs to uid {owner}, not to {os.geteuid()}; choose another NORTHSTAR_HOME")
        return ServerUser(os.geteuid(), os.getegid())

    def reaches() -> None:
        os.stat(folder)
        os.listdir(bin_folder.parent / "lib")
        os.close(os.open(bin_folder.parent / "share" / "postgres.bki", os.O_RDONLY))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execv(bin_folder / "postgres", ["postgres", "--version"])

    for uid in [owner] if owner else [_free_uid(folder), pwd.getpwnam("nobody").pw_uid]:
        for capability in (None, CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
            user = ServerUser(uid, uid, capability)
            if user.run(reaches):
                return user
    raise StoreError(
        f"Postgres does not run as root, and no other user may enter {folder} and {bin_folder}; "
        "set NORTHSTAR_HOME to a folder everybody may enter, or run as a plain user"
    )


def give(folder: Path, user: ServerUser) -> None:
    """Make a user the owner of a folder and all that is in it."""
    for parent, _, files in os.walk(folder):
        os.chown(parent, user.uid, user.gid)
        for name in files:
            os.chown(os.path.join(parent, name), user.uid, user.gid, follow_symlinks=False)


def _free_uid(folder: Path) -> int:
    """Return a uid without a name, the same for the same folder."""
    start = int.from_bytes(hashlib.sha256(os.fsencode(folder)).digest()[:4], "big")
    for step in range(len(_DYNAMIC_UIDS)):
        uid = _DYNAMIC_UIDS[(start + step) % len(_DYNAMIC_UIDS)]
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return uid
    return pwd.getpwnam("nobody").pw_uid


def _prctl(option: int, argument: int, extra: int = 0) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(extra), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def _keep_only(capability: int) -> None:
    """Keep one capability over the next exec (ambient, Linux 4.3) and drop all others."""
    mask = 1 << capability
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    wanted = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)  # effective, permitted, inheritable; bits 32 on
    if _libc.capset(header, wanted) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def _borrow_a_name() -> None:
    """Enter a user namespace in which we are ``nobody``; files made there are still ours outside."""
    uid, gid, nobody = os.geteuid(), os.getegid(), pwd.getpwnam("nobody")
    if _libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), f"uid {uid} has no name and may not make a user namespace")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{nobody.pw_uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{nobody.pw_gid} {gid} 1")
    os.umask(0o077)
