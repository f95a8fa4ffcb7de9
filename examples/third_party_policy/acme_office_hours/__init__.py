"""A selection policy for Lepton: one version by day, another by night."""
