"""The acceptance story: a Spark tutorial and the general operations, held to what PySpark 4.3 gave."""
