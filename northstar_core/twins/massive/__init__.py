"""The twin of Massive: streams by cluster, and REST."""
