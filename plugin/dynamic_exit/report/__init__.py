"""Pages and tables that show what a run found."""
