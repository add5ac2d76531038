"""Facts of Katib and of its files: names and defaults, YAML, containers, filters, shell lines, gRPC messages."""
