"""What stands at a commit: files, links, and the exported tree."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from provider.demo.git_server import Content, File, GitServer
from provider.errors import Code, Permanent, Temporary
from provider.source import Source
from tests.unit.source.helpers import INSTALLATION, NOWHERE, REPO, bare, commit_body, git

LINK = File("target", "120000")


async def test_what_stands_at_a_path(host: GitServer, source: Source) -> None:
    sha = await host.commit(
        REPO,
        "main",
        {"Dockerfile": "FROM scratch", "app/run": File("x", "100755"), "link": LINK, "dir": File("app", "120000")},
    )
    await source.resolve(REPO, "main", sha, INSTALLATION)
    expected = {
        "Dockerfile": "file", "./Dockerfile": "file", "app": "dir", "app/": "dir", "app/run": "file", ".": "dir",
        "": "dir", "link": "symlink", "dir": "symlink", "dir/run": None, "none": None, "app/none": None,
        "/Dockerfile": None, "../x": None, "app/../Dockerfile": None, "a\0b": None, "*": None, "--help": None,
        ":(glob)**": None,
    }  # fmt: skip
    looked = await source.look(REPO, sha, list(expected))
    assert {path: looked[path].kind if path in looked else None for path in expected} == expected
    assert [await source.kind(REPO, sha, path) for path in ("app", "none")] == ["dir", None]


async def test_reading_a_file(host: GitServer, source: Source) -> None:
    content = bytes(range(256)) * 10
    sha = await host.commit(REPO, "main", {"x/y": content, "ünï ➜\tcode": "z", "empty": "", "link": LINK})
    await source.resolve(REPO, "main", sha, INSTALLATION)
    assert await source.read(REPO, sha, "x/y", len(content)) == content
    assert await source.read(REPO, sha, "./ünï ➜\tcode", 5) == b"z"
    assert await source.read(REPO, sha, "empty", 5) == b""
    assert await source.read(REPO, sha, "none", 5) is None
    assert await source.read(REPO, sha, "x", 5) is None
    for path, reason in (("x/y", "TooLarge"), ("link", "Symlink")):
        with pytest.raises(Permanent) as caught:
            await source.read(REPO, sha, path, len(content) - 1)
        assert (caught.value.code, caught.value.reason) == (Code.INVALID_PREVIEW_SPEC, reason)


async def test_a_commit_that_was_not_resolved(source: Source) -> None:
    with pytest.raises(Temporary) as caught:
        await source.read(REPO, NOWHERE, "a", 10)
    assert caught.value.reason == "CacheLost"


async def test_an_exported_tree_is_what_a_clone_would_be(host: GitServer, source: Source, tmp_path: Path) -> None:
    attributes = "* export-ignore\n*.bin filter=lfs diff=lfs merge=lfs -text\n*.sub export-subst\n*.bat text eol=crlf\n"
    files: dict[str, Content] = {
        ".gitattributes": attributes,
        "a b/ü": "text\n",
        "run.sh": File("#!/bin/sh\n", "100755"),
        "link": LINK,
        "dangling": File("/no/such/place", "120000"),
        "data.bin": "version https://git-lfs.github.com/spec/v1\n",
        "v.sub": "$Format:%H$",
        "x.bat": "echo\n",
        "module": File(NOWHERE, "100644"),
    }
    sha = await host.commit(REPO, "main", files)
    await source.resolve(REPO, "main", sha, INSTALLATION)
    await asyncio.gather(*(source.export(REPO, sha, tmp_path / "out" / str(n)) for n in range(4)))
    for tree in (tmp_path / "out").iterdir():  # one of them had been written ahead
        assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if not path.is_dir()) == sorted(files)
    tree = tmp_path / "out" / "0"
    assert (tree / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tree / "a b/ü").stat().st_mode & 0o777 == 0o644
    assert (tree / "link").readlink() == Path("target")
    assert (tree / "dangling").readlink() == Path("/no/such/place")
    assert (tree / "v.sub").read_text() == "$Format:%H$"
    assert (tree / "x.bat").read_bytes() == b"echo\r\n"
    with pytest.raises(ValueError, match="not empty"):
        await source.export(REPO, sha, tree)
    assert not list((tmp_path / "state" / "git").glob("index-*"))


async def test_of_a_repository_the_tree_fetched_last_is_written_ahead(
    host: GitServer, source: Source, tmp_path: Path
) -> None:
    def ahead() -> list[Path]:
        return list((tmp_path / "state" / "git").glob("tree-*"))

    shas = []
    for content in "ab":
        shas.append(await host.commit(REPO, "main", {"file": content}))
        await source.resolve(REPO, "main", shas[-1], INSTALLATION)
    for sha, content in zip(shas, "ab", strict=True):
        await source.export(REPO, sha, tmp_path / content)
        assert (tmp_path / content / "file").read_text() == content
    assert ahead() == []
    sha = await host.commit(REPO, "main", {"file": "c"})
    await source.resolve(REPO, "main", sha, INSTALLATION)
    async with asyncio.timeout(10):
        while not any((tree / "file").exists() for tree in ahead()):  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.01)
    await source.close()
    assert ahead() == []


async def test_commits_of_one_repository_at_once_each_get_the_whole_of_their_own_tree(
    host: GitServer, source: Source, tmp_path: Path
) -> None:
    """One that was written ahead goes to who asks for it, or is dropped for the next one: never both."""
    many = {f"folder/{number}": "x" * 100 for number in range(200)}
    shas = [await host.commit(REPO, "main", {**many, "file": str(number)}) for number in range(6)]

    async def brought(number: int) -> None:
        await source.resolve(REPO, "main", shas[number], INSTALLATION)
        await source.export(REPO, shas[number], tmp_path / "out" / str(number))

    await asyncio.gather(*map(brought, range(6)))
    for number in range(6):
        tree = tmp_path / "out" / str(number)
        assert (tree / "file").read_text() == str(number)
        assert len(list((tree / "folder").iterdir())) == len(many)


async def test_a_tree_that_would_write_into_dot_git(host: GitServer, source: Source, tmp_path: Path) -> None:
    repository = bare(host)
    blob = bytes.fromhex(git(repository, "hash-object", "-w", "--stdin", stdin=b"x"))
    inner = bytes.fromhex(
        git(repository, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=b"100644 config\0" + blob)
    )
    tree = git(repository, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=b"40000 .git\0" + inner)
    commit = commit_body(1).replace(b"4b825dc642cb6eb9a060e54bf8d69288fbee4904", tree.encode())
    sha = git(repository, "hash-object", "-t", "commit", "-w", "--stdin", stdin=commit)
    git(repository, "update-ref", "refs/heads/main", sha)
    await source.resolve(REPO, "main", sha, INSTALLATION)
    with pytest.raises(Permanent) as caught:
        await source.export(REPO, sha, tmp_path / "tree")
    assert caught.value.reason == "UnusableTree"
    assert not list((tmp_path / "tree").rglob("config"))
