"""The demonstration: Keyclave's main job on synthetic health records, every step of which proves itself. `run.py` starts it."""
