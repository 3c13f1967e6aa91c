"""The packaged sample app and the local stack of `preview demo`."""
