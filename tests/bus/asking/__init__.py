"""The client and the commands against a real nats-server, with a scripted provider on the other side."""
