"""The main job on Kubernetes: from a message on the bus to a verified URL, and everything that may go wrong."""

from __future__ import annotations

import asyncio

import pytest

from provider import names
from provider.client import PreviewFailed
from tests.cluster.apps import App
from tests.cluster.places import DOMAIN
from tests.cluster.world import INSTALLATION, ClusterWorld
from tests.e2e.helpers import eventually, refused

pytestmark = pytest.mark.timeout(240)


async def test_a_commit_becomes_a_verified_url(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("main", App(body="the first\n"))
    done = await cluster.deploy("main", sha)
    assert (done.url, done.slug, done.commit_sha) == (f"https://main.{DOMAIN}", "main", sha)
    assert done.built
    assert done.image == f"{cluster.place.registry}/previews/main:{sha[:12]}"
    assert done.job_name == f"preview-build-main-{sha[:8]}"
    assert [check["ok"] for check in done.checks] == [True]
    assert await cluster.guest.text(done.url) == "the first\n"
    deployment = await cluster.place.api.get("Deployment", cluster.place.previews, "main")
    assert deployment is not None
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{cluster.place.pull_registry}/previews/main@{done.digest}", "by digest, not by tag"
    assert deployment["spec"]["selector"] == {"matchLabels": {"app": "main"}}


async def test_a_second_commit_replaces_the_first(cluster: ClusterWorld) -> None:
    first = await cluster.app("redeploy", App(body="one\n"))
    second = await cluster.app("redeploy", App(body="two\n"))
    assert second.digest != first.digest
    assert await cluster.guest.text(second.url) == "two\n"


async def test_the_same_commit_again_builds_nothing(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("again")
    assert (await cluster.deploy("again", sha)).built
    before = await cluster.pods("again")
    repeated = await cluster.deploy("again", sha)
    assert not repeated.built
    assert await cluster.pods("again") == before, "nothing rolled"


async def test_secrets_reach_the_app_and_a_changed_one_rolls_it(cluster: ClusterWorld) -> None:
    env = [{"name": "TOKEN", "from": "secret:API_TOKEN"}, {"name": "SELF", "from": "preview.self_url"}]
    sha = await cluster.commit("secrets", App(spec={"env": env}))
    done = await cluster.deploy("secrets", sha, secret_values={"API_TOKEN": "first-$(HOME)"}, extra_env={"MORE": "m"})
    shown = await cluster.guest.text(done.url, "/cgi-bin/env")
    assert "TOKEN=first-$(HOME)\n" in shown
    assert "MORE=m\n" in shown
    assert f"SELF={done.url}\n" in shown
    again = await cluster.deploy("secrets", sha, secret_values={"API_TOKEN": "second"}, extra_env={"MORE": "m"})
    assert not again.built
    assert "TOKEN=second\n" in await cluster.guest.text(done.url, "/cgi-bin/env")

    async def tidy() -> bool:
        names = await cluster.place.api.names("Secret", cluster.place.previews)
        bundles = [name for name in names if name.startswith("preview-secrets-secrets-")]
        return len(bundles) == 1 and not any("staged" in name for name in names)

    await eventually(tidy, what="what was staged, and the bundle that nothing needs, are gone")


async def test_a_branch_may_have_a_number_sign(cluster: ClusterWorld) -> None:
    await cluster.commit("numbered")
    files = App().files("numbered", cluster.place.base_image)
    sha = await cluster.git.commit("acme/numbered", "feature/#123", files, orphan=True)
    done = await cluster.client.deploy("acme/numbered", "feature/#123", commit_sha=sha, installation_id=INSTALLATION)
    assert (done.built, done.commit_sha) == (True, sha)


async def test_a_failed_build_is_told_with_its_cause_and_changes_nothing(cluster: ClusterWorld) -> None:
    good = await cluster.app("badbuild", App(body="good\n"))
    failed = await refused(cluster.app("badbuild", App(build_exit=3)))
    assert (failed.code, failed.reply["phase"], failed.reply["reason"]) == ("kaniko_build_failed", "build", "RunFailed")
    assert failed.reply["still_serving"] == good.commit_sha
    assert any("begun" in line for line in failed.reply["log_tail"])
    assert await cluster.guest.text(good.url) == "good\n"


async def test_a_failed_build_of_the_same_commit_is_tried_again(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("tryagain", App(build_exit=2))
    first, second = [await refused(cluster.deploy("tryagain", sha)) for _ in range(2)]
    assert first.code == second.code == "kaniko_build_failed"
    assert first.reply["deploy_id"] != second.reply["deploy_id"]


async def test_complaint_6_an_app_that_crashes_is_not_called_ready(cluster: ClusterWorld) -> None:
    failed = await refused(cluster.app("crash", App(crash=4)))
    assert (failed.code, failed.reply["reason"]) == ("deployment_not_ready", "CrashLoop")
    assert "code 4" in failed.reply["message"]
    assert failed.reply["log_tail"] == ["giving up"]
    assert (await cluster.guest.get(f"https://crash.{DOMAIN}")).status_code in {404, 503}


async def test_a_redeploy_that_never_gets_healthy_leaves_the_last_good_serving(cluster: ClusterWorld) -> None:
    good = await cluster.app("sick", App(body="well\n"))
    failed = await refused(cluster.app("sick", App(body="ill\n", sick=True)))
    assert (failed.code, failed.reply["phase"]) == ("deployment_not_ready", "rollout")
    assert "404" in failed.reply["message"]
    assert failed.reply["still_serving"] == good.commit_sha
    assert await cluster.guest.text(good.url) == "well\n"
    assert (await cluster.client.status(slug="sick")).state == "degraded"


async def test_a_check_that_fails_at_the_url_puts_the_last_good_back(cluster: ClusterWorld) -> None:
    good = await cluster.app("verify", App(body="expected\n"))
    failed = await refused(
        cluster.app("verify", App(body="other\n"), acceptance=[{"path": "/", "body_contains": "expected"}])
    )
    assert (failed.code, failed.reply["phase"]) == ("verify_failed", "verify")
    assert failed.reply["still_serving"] == good.commit_sha
    assert await cluster.guest.text(good.url) == "expected\n"


async def test_the_last_accepted_wins(cluster: ClusterWorld) -> None:
    slow = await cluster.commit("rapid", App(build_hangs=True))
    first = asyncio.create_task(cluster.deploy("rapid", slow))
    await cluster.job("rapid", slow)
    done = await cluster.app("rapid", App(body="newest\n"))
    assert (await refused(first)).code == "superseded"
    assert await cluster.guest.text(done.url) == "newest\n"
    await cluster.job_gone("rapid", slow)


async def test_cancel_stops_the_build(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("cancel", App(build_hangs=True))
    running = asyncio.create_task(cluster.deploy("cancel", sha))
    await cluster.job("cancel", sha)
    await cluster.client.cancel(slug="cancel")
    assert (await refused(running)).code == "cancelled"
    await cluster.job_gone("cancel", sha)


async def test_complaint_3_a_teardown_during_the_build_leaves_nothing(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("gone", App(build_hangs=True))
    running = asyncio.create_task(cluster.deploy("gone", sha))
    await cluster.job("gone", sha)
    await cluster.client.teardown("gone")
    assert (await refused(running)).code == "cancelled"
    await cluster.nothing_left("gone")


async def test_teardown_names_what_was_there_and_can_be_repeated(cluster: ClusterWorld) -> None:
    await cluster.deploy("teardown", secret_values={}, extra_env={"A": "1"})
    (bundle,) = [
        name
        for name in await cluster.place.api.names("Secret", cluster.place.previews)
        if name.startswith("preview-secrets-teardown-")
    ]
    removed = await cluster.client.teardown("teardown")
    assert set(removed.deleted) == {
        "ingress/teardown",
        "service/teardown",
        "deployment/teardown",
        f"secret/{bundle}",
    }
    assert (await cluster.client.teardown("teardown")).deleted == ()
    await cluster.nothing_left("teardown")


async def test_complaint_9_a_slug_belongs_to_the_repository_that_made_it(cluster: ClusterWorld) -> None:
    mine = await cluster.app("owned", App(body="mine\n"))
    theirs = await cluster.commit("owned", App(body="theirs\n"), repo="rival/owned")
    failed = await refused(cluster.deploy("owned", theirs, repo="rival/owned"))
    assert failed.code == "slug_taken"
    assert await cluster.guest.text(mine.url) == "mine\n"


async def test_complaint_9_a_slug_of_63_characters(cluster: ClusterWorld) -> None:
    slug = "s" * 63
    done = await cluster.app(slug, App(body="long\n"), extra_env={"A": "1"})
    assert await cluster.guest.text(done.url) == "long\n"
    assert len(str(done.job_name)) == 63
    await cluster.client.teardown(slug)
    await cluster.nothing_left(slug)


async def test_a_repository_without_credentials_needs_none(cluster: ClusterWorld) -> None:
    token, cluster.git.token = cluster.git.token, None
    try:
        done = await cluster.deploy("public", installation_id=None)
    finally:
        cluster.git.token = token
    assert done.built
    assert f"{done.job_name}-git" not in await cluster.place.api.names("Secret", cluster.place.builds)


async def test_clone_credentials_stand_in_the_jobs_secret_alone(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("private", App(build_hangs=True))
    running = asyncio.create_task(cluster.deploy("private", sha))
    job = await cluster.job("private", sha)
    assert cluster.git.token is not None
    assert cluster.git.token.get_secret_value() not in str(job)
    name = names.clone_secret(names.build_job("private", sha))

    async def owned() -> bool:
        secret = await cluster.place.api.get("Secret", cluster.place.builds, name)
        return secret is not None and "ownerReferences" in secret["metadata"]

    await eventually(owned)
    await cluster.client.cancel(slug="private")
    await refused(running)

    async def gone() -> bool:
        return await cluster.place.api.get("Secret", cluster.place.builds, name) is None

    await eventually(gone, what="the credentials go with their Job")


async def test_alias_hosts_are_served_with_secrets_of_their_own(cluster: ClusterWorld) -> None:
    await cluster.deploy("alias", alias_hosts=["alias.example.test"])
    ingress = await cluster.place.api.get("Ingress", cluster.place.previews, "alias")
    assert ingress is not None
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == [f"alias.{DOMAIN}", "alias.example.test"]
    assert ingress["spec"]["tls"][1]["secretName"] == names.alias_tls_secret("alias", "alias.example.test")


async def test_two_requests_for_the_same_share_one_build(cluster: ClusterWorld) -> None:
    sha = await cluster.commit("shared")
    both = await asyncio.gather(*(cluster.deploy("shared", sha) for _ in range(2)), return_exceptions=True)
    assert not [one for one in both if isinstance(one, PreviewFailed)]
    assert len([job for job in await _jobs(cluster) if "-shared-" in job]) == 1


async def _jobs(cluster: ClusterWorld) -> set[str]:
    return await cluster.place.api.names("Job", cluster.place.builds)
