"""What the fused features are used for: one file a task, and `fit`, the one training loop they share."""
