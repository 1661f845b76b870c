"""How good a snapshot is on events it has not learned: measures, slices, intervals. Arrays only."""
