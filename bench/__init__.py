"""The benchmark: `make bench` prints one table from one run."""
