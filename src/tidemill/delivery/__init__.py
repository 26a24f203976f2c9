"""Delivery: builds the packages of a commit, and deploys a build to the target of an environment."""
