"""What the node keeps: the database and its rows, and the files beside it."""
