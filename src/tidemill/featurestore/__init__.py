"""The feature store: history for training, the latest values for serving, one definition for both."""
