"""The import name of Lepton's first documents; everything is in `lepton_plugins.api`."""
