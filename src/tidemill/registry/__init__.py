"""The registry: releases under their names, and the routes that define which of them are in production."""
