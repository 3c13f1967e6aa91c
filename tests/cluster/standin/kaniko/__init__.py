"""A builder that behaves like Kaniko: its flags, its words, its real git fetch and its real push.

Only the steps of the Dockerfile are not run; what they would print and how they would end is scripted.
"""
