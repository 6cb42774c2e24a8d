"""One module a kind of data set: what it looks like on disk, and how its files are read."""
