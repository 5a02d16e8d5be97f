"""Train neural networks under constraints: which set, on what, by which method, and the proof."""
