"""The command line: thin commands over the pipeline. `main` is the entry point."""
