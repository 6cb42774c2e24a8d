"""The status page, and what monitors ask for."""
