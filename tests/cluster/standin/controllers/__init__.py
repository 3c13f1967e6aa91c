"""What makes objects come to life: the controllers of a control plane, a scheduler and one node's kubelet."""
