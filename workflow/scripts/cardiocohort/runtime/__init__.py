"""What every stage stands on: errors, files, tables, the loop over a batch."""
