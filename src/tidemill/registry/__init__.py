"""The registry: releases under their names, and the routes that say which of them answer."""
