"""How the tables came to be what they are: one step of `versions` after the other, applied at the start of a node by alembic."""
