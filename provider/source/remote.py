"""One repository on its git host: where it is, how we are let in, and what its failures mean.

Git says why it failed only in prose, so the prose is read here, in one table. What no line of the
table explains is no statement of the host's: then the local cache is suspect (see `source.py`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import Enum, auto

from pydantic import TypeAdapter, ValidationError

from provider.errors import Code, Permanent, PreviewError, Temporary, Whose
from provider.models import RepoName
from provider.source.credentials import Credential
from provider.source.git import Result, basic_authorization

_REPO_NAME = TypeAdapter[str](RepoName)


def valid_repo(name: str) -> bool:
    """Whether `name` is an `owner/repo` that can stand in a clone URL."""
    try:
        _REPO_NAME.validate_python(name)
    except ValidationError:
        return False
    return True


class Cause(Enum):
    """Why a fetch failed."""

    NO_REPOSITORY = auto()
    REFUSED = auto()
    MOVED = auto()
    NO_BRANCH = auto()
    NO_COMMIT = auto()
    NOT_A_COMMIT = auto()
    UNADVERTISED = auto()
    NO_SHALLOW = auto()
    TOO_LARGE = auto()
    DISK_FULL = auto()
    UNREACHABLE = auto()


# Read from the top: the first line that matches is the cause.
_SAYINGS: tuple[tuple[str, Cause], ...] = (
    (r"File too large", Cause.TOO_LARGE),
    (r"No space left on device|Disk quota exceeded", Cause.DISK_FULL),
    (r"could not read (Username|Password)|Authentication failed|returned error: 40[13]", Cause.REFUSED),
    (r"repository '.*' not found|does not appear to be a git repository|not valid: is this a git", Cause.NO_REPOSITORY),
    (r"returned error: (404|410)", Cause.NO_REPOSITORY),
    (r"returned error: 30\d", Cause.MOVED),
    (r"couldn't find remote ref", Cause.NO_BRANCH),
    (r"not our ref|want [0-9a-f]+ not valid|no such remote ref", Cause.NO_COMMIT),
    (r"trying to write non-commit object", Cause.NOT_A_COMMIT),
    (r"Server does not allow request for unadvertised object", Cause.UNADVERTISED),
    (r"does not support shallow", Cause.NO_SHALLOW),
    (r"unable to access '|RPC failed|returned error: \d|early EOF|hung up|unexpected disconnect", Cause.UNREACHABLE),
    (r"Could not read from remote repository|remote error: ", Cause.UNREACHABLE),
)
_TABLE = tuple((re.compile(saying), cause) for saying, cause in _SAYINGS)


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository, the branch that is asked for, and the credential for it (None: asked without)."""

    base_url: str
    repo: str
    branch: str
    credential: Credential | None = None

    @property
    def url(self) -> str:
        """The clone URL; never with credentials."""
        return f"{self.base_url}/{self.repo}.git"

    @property
    def branch_ref(self) -> str:
        """Where a cache keeps the branch: flat and hashed, so that `a` and, later, `a/b` can both be there."""
        return f"refs/heads/branches/{hashlib.sha256(self.branch.encode()).hexdigest()[:32]}"

    @property
    def branch_refspec(self) -> str:
        """Brings `branch_ref` to where the branch is, also after a force push."""
        return f"+refs/heads/{self.branch}:{self.branch_ref}"

    def authorization(self) -> dict[str, str]:
        """The header that authorizes a request, sparing the round trip of a 401."""
        if self.credential is None:
            return {}
        return {"Authorization": basic_authorization(self.credential.username, self.credential.token)}

    def config(self) -> dict[str, str]:
        """Git settings that send that header with every request below the base URL."""
        return {f"http.{self.base_url}/.extraHeader": f"{key}: {value}" for key, value in self.authorization().items()}

    def masked(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        """`lines` without the credential, should a server ever repeat it."""
        if self.credential is None:
            return lines
        token = self.credential.token
        encoded = basic_authorization(self.credential.username, token).removeprefix("Basic ")
        return tuple(line.replace(token.get_secret_value(), "***").replace(encoded, "***") for line in lines)


def cause_of(result: Result) -> Cause | None:
    """The cause that git's complaints name, or None when they name none that we know."""
    text = "\n".join(result.complaints)
    return next((cause for saying, cause in _TABLE if saying.search(text)), None)


def failure(remote: Remote, cause: Cause | None, result: Result, sha: str | None = None) -> PreviewError:
    """The error that callers see for a fetch that failed with that cause."""
    evidence = remote.masked(result.complaints)
    match cause:
        case Cause.NO_BRANCH:
            return Permanent(
                Code.BRANCH_NOT_FOUND,
                f"{remote.repo} has no branch {remote.branch!r}",
                hint="push the branch, or check its name; a repository without commits has no branch",
                evidence=evidence,
                reason="BranchNotFound",
            )
        case Cause.NO_COMMIT | Cause.UNADVERTISED | Cause.NOT_A_COMMIT:
            return commit_not_found(remote, sha or "", evidence)
        case Cause.NO_REPOSITORY | Cause.REFUSED | Cause.MOVED | Cause.TOO_LARGE:
            return _for_the_user(remote, cause, evidence)
        case Cause.DISK_FULL:
            return Temporary(
                Code.REPO_UNREACHABLE,
                "the provider's disk is full",
                reason="DiskFull",
                evidence=evidence,
                hint="free space in STATE_DIR on the provider's machine",
            )
        case _:
            return unreachable(remote, "could not be fetched", evidence)


def commit_not_found(remote: Remote, sha: str, evidence: tuple[str, ...] = (), ambiguous: bool = False) -> Permanent:
    """No such commit, or a short sha that names several on the branch."""
    problem = f"commit {sha} is ambiguous" if ambiguous else f"there is no commit {sha}"
    return Permanent(
        Code.COMMIT_NOT_FOUND,
        f"{problem} on branch {remote.branch!r} of {remote.repo}",
        reason="Ambiguous" if ambiguous else "Unknown",
        hint="send the full 40 characters" if ambiguous else "push the commit, or check the sha and the branch",
        evidence=evidence,
    )


def unreachable(remote: Remote, what: str, evidence: tuple[str, ...] = ()) -> Temporary:
    """The host did not answer, or not with anything of use."""
    return Temporary(
        Code.REPO_UNREACHABLE,
        f"{remote.url} {what}",
        reason="Unreachable",
        hint="ask again; if it stays so, check the git host and GIT_BASE_URL",
        evidence=remote.masked(evidence),
    )


def _for_the_user(remote: Remote, cause: Cause, evidence: tuple[str, ...]) -> Permanent:
    anonymous = remote.credential is None
    reason, message, hint = {
        Cause.NO_REPOSITORY: (
            "RepositoryNotFound",
            f"{remote.url} is no repository that can be seen "
            + ("without" if anonymous else "with these")
            + " credentials",
            "check the name; a private repository needs installation_id"
            if anonymous
            else "check the name, and that the installation covers this repository",
        ),
        Cause.REFUSED: (
            "CredentialsRefused",
            f"{remote.url} wants credentials" if anonymous else f"{remote.url} refused the installation's credentials",
            "send installation_id: the repository is private"
            if anonymous
            else "check that the installation covers this repository and may read its contents",
        ),
        Cause.MOVED: (
            "RepositoryMoved",
            f"{remote.url} redirects elsewhere; credentials are not sent along",
            "send the repository's present name; if every repository does this, GIT_BASE_URL is not the host's own",
        ),
        Cause.TOO_LARGE: (
            "TooLarge",
            f"{remote.url} is larger than GIT_MAX_BYTES allows",
            "take large files out of the repository, or have GIT_MAX_BYTES raised",
        ),
    }[cause]
    return Permanent(
        Code.REPO_UNREACHABLE,
        message,
        reason=reason,
        hint=hint,
        evidence=evidence,
        whose=Whose.USER,
        retryable=False,
    )
