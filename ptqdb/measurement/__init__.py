"""The facts of one network: sums and histograms of its tensors, MACs, evaluations."""
