"""Training under DeepSpeed: the engine, the step, stages, checkpoints and callbacks."""
