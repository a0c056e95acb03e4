"""What is seen of mods: samples, history, rows and stats. Changes nothing."""
