"""What one `git cat-file` tells of a commit is what `git ls-tree` tells; what it cannot tell is left to that."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider.source.cache import Cache, Holding
from provider.source.git import Git, GitTimeout
from provider.source.objects import MOST_BYTES, MOST_ENTRIES, Objects
from provider.source.tree import entries

ENVIRONMENT = {
    "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
}  # fmt: skip
SPEC = ".x1agent/preview.yaml"
MODES = st.sampled_from(["100644", "100755", "120000"])
NAMES = st.sampled_from(["a", "b c", "ü\t➜", "Dockerfile", "x.y"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> str:
    command = ["git", f"--git-dir={repository}", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, check=True, env=ENVIRONMENT)
    return done.stdout.decode().rstrip("\n")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objects") / "repository"
    git(folder, "init", "--quiet", "--bare")
    return folder


def commit(repository: Path, files: dict[str, tuple[str, bytes]]) -> str:
    """A commit with these files: path → mode, content (of a submodule: the commit's sha)."""
    (repository / "index").unlink(missing_ok=True)
    lines = []
    for path, (mode, content) in files.items():
        submodule = mode == "160000"
        oid = content.decode() if submodule else git(repository, "hash-object", "-w", "--stdin", stdin=content)
        lines.append(f"{mode} {oid}\t{path}\0".encode())
    git(repository, "update-index", "-z", "--index-info", stdin=b"".join(lines))
    return git(repository, "commit-tree", git(repository, "write-tree"), "-m", "change")


async def told(repository: Path, sha: str, *wanted: str) -> Holding | None:
    async with objects(repository, wanted) as asked:
        await asked.start()
        return await asked.holding(sha)


def objects(repository: Path, wanted: tuple[str, ...] = (), timeout: float = 10.0) -> Objects:
    reader = Git(home=repository, timeout=timeout, max_bytes=1 << 30)
    return Objects(reader, Cache(repository, 1 << 30), wanted)


def without_clashes(files: dict[str, tuple[str, bytes]]) -> dict[str, tuple[str, bytes]]:
    """Those below no other file."""
    return {path: file for path, file in files.items() if not any(path.startswith(f"{other}/") for other in files)}


@settings(max_examples=15)
@given(st.dictionaries(PATHS, st.tuples(MODES, st.binary(max_size=50)), min_size=1, max_size=12).map(without_clashes))
async def test_it_is_what_ls_tree_tells(repository: Path, files: dict[str, tuple[str, bytes]]) -> None:
    sha = commit(repository, files)
    found = await told(repository, sha, *files)
    assert found is not None
    listed = git(repository, "ls-tree", "-z", "-l", "-t", "-r", "--full-tree", sha)
    assert (found.commit, found.entries) == (sha, entries(listed))
    assert found.size == sum(len(content) for _, content in files.values())
    plain = {path: content for path, (mode, content) in files.items() if mode != "120000"}
    assert {path: found.contents[found.entries[path].oid] for path in plain} == plain


async def test_contents_are_those_that_are_wanted_and_small(repository: Path) -> None:
    file = ("100644", b"kind: PreviewSpec\n")
    large = ("100644", b"x" * (MOST_BYTES + 1))
    sha = commit(repository, {SPEC: file, "other": ("100644", b"o"), "large": large})
    found = await told(repository, sha, SPEC, "large", "none", ".x1agent")
    assert found is not None
    assert found.contents == {found.entries[SPEC].oid: file[1]}


async def test_a_submodule_is_nothing(repository: Path) -> None:
    sha = commit(repository, {"a": ("100644", b""), "theirs": ("160000", b"1" * 40)})
    found = await told(repository, sha)
    assert found is not None
    assert list(found.entries) == ["a"]


async def test_what_is_large_or_no_commit_is_left_to_others(repository: Path) -> None:
    many = commit(repository, {f"{number}/file": ("100644", b"") for number in range(MOST_ENTRIES // 2 + 1)})
    broad = commit(repository, {f"{number:0200}": ("100644", b"") for number in range(MOST_BYTES // 200)})
    small = commit(repository, {"a": ("100644", b"")})
    tree = git(repository, "rev-parse", f"{small}^{{tree}}")
    tag = git(repository, "mktag", stdin=f"object {small}\ntype commit\ntag t\ntagger a <a@b> 1 +0000\n\nt\n".encode())
    for sha in (many, broad, tree, tag, "1" * 40):
        assert await told(repository, sha) is None


@pytest.mark.parametrize("lost", ["a", "b", "b/c"])
async def test_a_commit_that_is_not_whole(repository: Path, lost: str) -> None:
    content = os.urandom(8)
    sha = commit(repository, {"a": ("100644", content), "b/c": ("100644", content + b"c")})
    oid = git(repository, "rev-parse", f"{sha}:{lost}")
    (repository / "objects" / oid[:2] / oid[2:]).unlink()
    assert await told(repository, sha) is None


async def test_it_is_there_before_the_commit_is(repository: Path) -> None:
    async with objects(repository) as asked:
        await asked.start()
        assert await asked.holding("1" * 40) is None, "it has looked for what is there"
        sha = commit(repository, {"late": ("100644", os.urandom(8))})
        git(repository, "repack", "-a", "-d", "-q")
        found = await asked.holding(sha)
    assert found is not None
    assert list(found.entries) == ["late"]


@pytest.mark.parametrize(("what", "outcome"), [(signal.SIGKILL, None), (signal.SIGSTOP, GitTimeout)])
async def test_a_git_that_ends_or_hangs(
    repository: Path, what: signal.Signals, outcome: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    spawn: Callable[..., object] = asyncio.create_subprocess_exec

    async def watched(*arguments: object, **options: object) -> object:
        started.append(await spawn(*arguments, **options))  # type: ignore[misc]
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", watched)
    sha = commit(repository, {"a": ("100644", b"")})
    async with objects(repository, timeout=0.3 if outcome else 30.0) as asked:
        await asked.start()
        os.kill(started[0].pid, what)
        if outcome is None:
            assert await asked.holding(sha) is None
        else:
            with pytest.raises(outcome):
                await asked.holding(sha)
    assert started[0].returncode is not None, "nothing of it is left"
