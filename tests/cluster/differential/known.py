"""The differences that we accept, each with its reason; one that shows no longer is reported, so that it goes."""

from __future__ import annotations

from tests.cluster.differential.compare import Known

ODD = "no warnings about what is allowed but odd"
FEWER = "the stand-in serves the kinds that are used"
KNOWN: tuple[Known, ...] = (
    Known("containers/port twice", "warnings.length", ODD),
    Known("containers/env twice", "warnings.length", ODD),
    Known("containers/memory in millis", "warnings.length", ODD),
    Known("pods/pull secret without a name", "warnings.length", ODD),
    Known("ingresses/old backend fields", "warnings.length", "warnings beside a refusal are not given"),
    Known("pods/runtime class that is not there", "**", "the kind is not served: any name is taken for one that is"),
    Known("pods/affinity without terms", "**", "affinity is neither used nor checked"),
    Known("*/discovery *", "body.resources.*", FEWER),
    Known("*/discovery *", "body.resources.*.storageVersionHash", "means something to one server only"),
    Known("*/discovery *", "body.resources.*.categories", "for people who type `kubectl get all`"),
    Known("protocol/discovery of groups", "body.groups.*", FEWER),
    Known("protocol/discovery of groups", "body.groups.*.**", FEWER),
    Known("protocol/discovery of versions", "body.serverAddressByClientCIDRs.**", "an address of the server"),
    Known("protocol/version", "body.*", "another build of the same version"),
    Known("roles/version for everybody", "body.*", "another build of the same version"),
    Known("reviews/*", "body.metadata.managedFields", "of an answer that is not kept, they mean nothing"),
    Known(
        "workloads/Job * deleted when gone", "warnings.length", "the warning about orphans is given with the 404 too"
    ),
)
