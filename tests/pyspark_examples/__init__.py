"""Spark's own bundled examples, unmodified, compared with what real PySpark printed."""
