"""What the benchmarks share: processes that train, the machine's limits, what is made of the times."""
