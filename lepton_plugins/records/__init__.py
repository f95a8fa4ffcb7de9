"""The records that flow through Lepton: spec → plan → artefact → decision."""
