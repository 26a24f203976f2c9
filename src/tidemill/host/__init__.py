"""The host: tools of the machine that Tidemill runs as programs (git, uv, Python) and never imports."""
