"""Where the records of a training go: the metrics file, TensorBoard, W&B, MLflow, the console."""
