"""SparkPost, played."""
