"""The cards of the catalog, by where the definitions come from. tests/models/test_cards.py counts them all again."""
