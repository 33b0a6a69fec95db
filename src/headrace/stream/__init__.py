"""The deterministic stream: which samples make which batch, as pure functions of the step."""
