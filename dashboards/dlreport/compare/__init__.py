"""Two results of one kind, compared point by point, with an interval of each difference."""
