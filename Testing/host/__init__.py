"""What stands in for the Slicer application where that is absent: see README.md of this folder."""
