"""The firewall's rules between previews, builds and this machine. Only the standard library: the builder uses it.

The networks are made with `isolate`, but that is not enough: when any isolated network goes, netavark 1.4 takes
away the jump to its rules, and with it the isolation of all others, until the next one is made (seen). And nothing
else keeps a preview or a build from what listens on all of the machine's addresses, over its gateway, or over
IPv6, which every interface has on its own link; or from a cloud's metadata service with the machine's credentials.

The bridges of previews and builds are all named x1…; from those that are named x1c… nothing outside is reached. (An
internal network of the engine's would not do: this machine has no address there, so neither probes nor the ingress
reach what is in it, seen on netavark 1.4.) The rules stay when the provider ends, since previews do. They stand in the
table `mangle`, which is asked before `filter`: there netavark puts its rule that accepts what comes from its networks
before all that it finds, when it makes the first one of a machine (seen on 1.4).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

_DROP = '-m comment --comment "x1-preview: apart" -j DROP'
_NEW = "-m conntrack ! --ctstate RELATED,ESTABLISHED"
_TO_HOST = f"INPUT -i x1+ {_NEW} {_DROP}"
"""Replies to the provider's probes may come in, nothing else."""
TABLE = ("-t", "mangle")
RULES = {
    "iptables": (
        _TO_HOST,
        f"FORWARD -i x1+ -o x1+ {_DROP}",
        f"FORWARD -i x1c+ {_NEW} {_DROP}",
        # Some clouds have their name server there, too.
        *(f"FORWARD -d 169.254.0.0/16 -i x1+ -p {kind} -m {kind} ! --dport 53 {_DROP}" for kind in ("tcp", "udp")),
    ),
    "ip6tables": (_TO_HOST, f"FORWARD -i x1+ {_DROP}"),
}
"""By program, in the words in which it lists them itself."""
_IPV6 = Path("/proc/net/if_inet6")
_INTERFACES = Path("/sys/class/net")


def ensure() -> None:
    """Make sure of all the rules.

    Raises:
        OSError, subprocess.SubprocessError: there is no working iptables.
    """
    for program, missing in _missing().items():
        for rule in missing:
            subprocess.run([program, "-w", *TABLE, "-I", *_words(rule)], check=True, capture_output=True)


def remove_unused() -> None:
    """Take the rules away again if no bridge of previews or builds is left on this machine.

    A provider makes sure of them before each network that it makes, so the next one has them again.
    """
    if any(interface.name.startswith("x1") for interface in _INTERFACES.iterdir()):
        return
    for program, rules in RULES.items():
        for rule in rules:
            subprocess.run([program, "-w", *TABLE, "-D", *_words(rule)], check=False, capture_output=True)


def lacking() -> str:
    """Why previews and builds are not kept apart; "" when they are."""
    try:
        missing = [rule for rules in _missing().values() for rule in rules]
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return f"missing: {'; '.join(missing)}" if missing else ""


def _missing() -> dict[str, list[str]]:
    programs = [program for program in RULES if program != "ip6tables" or _IPV6.exists()]
    return {program: _missing_of(program) for program in programs}


def _missing_of(program: str) -> list[str]:
    listing = subprocess.run([program, "-w", *TABLE, "-S"], check=True, capture_output=True, text=True)
    present = frozenset(listing.stdout.splitlines())
    return [rule for rule in RULES[program] if f"-A {rule}" not in present]


def _words(rule: str) -> list[str]:
    before, comment, after = rule.split('"')
    return [*before.split(), comment, *after.split()]
