"""The papers' experiments: a paper a file, a figure or table a function that returns a tidy DataFrame."""
