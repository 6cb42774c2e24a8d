"""The paper's tables and Figure 1, reproduced with what is there."""
