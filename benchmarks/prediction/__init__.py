"""How well the directory predicts when nodes are up: replays of traces and of generated populations."""
