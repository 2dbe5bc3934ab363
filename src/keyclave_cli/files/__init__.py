"""Working through files and folders: what is to be done, doing it side by side, and telling how it went."""
