"""Models of one format into another, checked by what they answer: `dlmodels convert`."""
