"""Who may deploy what: the policy file, and what it says of a request.

grammar    the models               patterns   names with `*`
loader     text → Policy            decide     policy, request, counts → decision. Pure
watched    the file, read again whenever it changed
"""

from provider.policy.decide import Asked, Breach, Counts, Decision, decide
from provider.policy.grammar import Policy, Rule
from provider.policy.loader import load
from provider.policy.watched import WatchedPolicy

__all__ = ["Asked", "Breach", "Counts", "Decision", "Policy", "Rule", "WatchedPolicy", "decide", "load"]
