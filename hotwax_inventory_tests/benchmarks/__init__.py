"""How fast the work is, as ratios to what bare tools take for the same on the same machine: `make bench SIZE=…`."""
