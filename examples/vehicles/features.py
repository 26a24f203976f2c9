"""The vehicles project has no feature views: all inputs come with the request."""
