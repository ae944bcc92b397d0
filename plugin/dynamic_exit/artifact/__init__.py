"""The written folder: its manifest, files, checksums, locks and runners."""
