"""Libraries, each a file; see `harness.peers`."""
