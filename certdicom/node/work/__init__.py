"""From a film in the store to a result: the job queue, its steps, and what keeps them going."""
