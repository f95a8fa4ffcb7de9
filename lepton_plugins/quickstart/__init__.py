"""`lepton quickstart`: the whole path on real data, from three trained versions to a measured comparison."""
