"""The project of a user: reads its configuration and its code, and creates new projects."""
