"""What the recommender learns from: event sequences, where they come from, how batches are cut."""
