"""The workspace: where one project keeps its state, and which of its runs are alive."""
