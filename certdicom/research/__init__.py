"""What a hospital never loads: data sets, training, evaluation, the paper's tables."""
