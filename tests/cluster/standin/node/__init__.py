"""One node: its kubelet, what runs in its containers, and the scheduler that sends pods to it."""
