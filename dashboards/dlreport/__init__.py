"""Turns result folders into tables, pictures and one HTML page. It reads files only, so a report can be redone later."""
