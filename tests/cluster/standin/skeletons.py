"""What even an empty object of a kind has: structures that are no pointers, lists that are written though empty.

A creation is compared with it to tell which fields the creator set: what is here already was not added by anybody.
"""

from __future__ import annotations

from tests.cluster.standin.values import Object

POD: Object = {"metadata": {}, "spec": {"containers": None}}
SKELETONS: dict[str, Object] = {
    "Pod": {"spec": POD["spec"]},
    "Deployment": {"spec": {"selector": None, "template": POD, "strategy": {}}},
    "ReplicaSet": {"spec": {"selector": None, "template": POD}},
    "StatefulSet": {"spec": {"selector": None, "template": POD, "updateStrategy": {}}},
    "Job": {"spec": {"template": POD}},
    "CronJob": {"spec": {"jobTemplate": {"metadata": {}, "spec": {"template": POD}}}},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
    "LimitRange": {"spec": {"limits": None}},
    "Role": {"rules": None},
    "ClusterRole": {"rules": None},
    "RoleBinding": {"roleRef": {}},
    "ClusterRoleBinding": {"roleRef": {}},
    "EndpointSlice": {"addressType": "", "endpoints": None, "ports": None},
    "Event": {
        **{"involvedObject": {}, "source": {}, "firstTimestamp": None, "lastTimestamp": None, "eventTime": None},
        **{"reportingComponent": "", "reportingInstance": ""},
    },
}


def empty(kind: str) -> Object:
    """The empty object of a kind, to be compared with, not to be changed."""
    return {"metadata": {}, "spec": {}, "status": {}, **SKELETONS.get(kind, {})}
