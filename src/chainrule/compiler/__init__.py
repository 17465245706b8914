"""The compiler: from a graph to a native program."""
