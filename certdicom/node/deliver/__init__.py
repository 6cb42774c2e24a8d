"""From a result to its destinations: C-STORE, STOW-RS, storage commitment."""
