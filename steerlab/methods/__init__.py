"""One file for each paper's method; each returns an `Intervention`."""
