"""What each thread of a node among others does, and what they share."""
