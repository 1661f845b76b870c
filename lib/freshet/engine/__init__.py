"""Spark and nothing but Spark: the session, sources, cleaning, the checkpoint, places where shards are learned."""
