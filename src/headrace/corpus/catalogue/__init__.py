"""What is in a corpus: a row for each document, to be asked by SQL."""
