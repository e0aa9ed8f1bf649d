"""The trial: its table, who is in which batch, the stage tables, the check of a cohort."""
