"""The node: receives films as a storage SCP, certifies them and returns the results to the archive."""
