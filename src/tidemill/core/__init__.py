"""The types of the domain: records of the ledger, settings of `tidemill.toml`, and the interfaces of stores."""
