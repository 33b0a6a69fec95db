"""Label sets, metrics, predictions and baselines of the tasks that Headrace trains."""
