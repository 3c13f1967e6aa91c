"""What a newly admitted deploy says about its preview. Pure, as `reducers` is."""

from __future__ import annotations

from datetime import datetime

from provider.models import DeployRecord, Newest, PreviewRecord, PreviewState


def order_of(deploy: DeployRecord) -> int:
    """When it was accepted (see `DeployRecord`)."""
    if deploy.order is None:
        raise ValueError(f"deploy {deploy.deploy_id} has no order: it was not created in the store")
    return deploy.order


def wishes_of(deploy: DeployRecord, url: str, inputs: str, now: datetime) -> dict[str, object]:
    """What a newly admitted deploy says about the preview."""
    return {
        "branch": deploy.request.branch,
        "url": url,
        "state": PreviewState.PROVISIONING,
        "newest": Newest(order=order_of(deploy), deploy_id=deploy.deploy_id, inputs=inputs),
        "failure": None,
        "alias_hosts": deploy.request.alias_hosts,
        "session_id": deploy.request.session_id,
        "ttl_seconds": deploy.request.ttl_seconds,
        "last_access": now,
        "warned_at": None,
        "branch_gone_at": None,
        "installation_id": deploy.request.installation_id,
    }


def kept(record: PreviewRecord, deploy: DeployRecord) -> dict[str, object]:
    """What a deploy that does not say it leaves as it is."""
    fields = ("session_id", "ttl_seconds")
    return {name: getattr(record, name) for name in fields if getattr(deploy.request, name) is None}


def fresh(deploy: DeployRecord, url: str, inputs: str, now: datetime, generation: int) -> PreviewRecord:
    """The record of a preview that begins with this deploy."""
    if deploy.slug is None:
        raise ValueError(f"deploy {deploy.deploy_id} has no slug yet")
    return PreviewRecord.model_validate(
        wishes_of(deploy, url, inputs, now)
        | {
            "platform_id": deploy.platform_id,
            "slug": deploy.slug,
            "repo_full_name": deploy.request.repo_full_name,
            "generation": generation,
            "created_at": now,
            "updated_at": now,
        }
    )
