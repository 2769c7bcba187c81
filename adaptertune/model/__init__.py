"""The backbone, what is inserted into it, what trains, and how much that is."""
