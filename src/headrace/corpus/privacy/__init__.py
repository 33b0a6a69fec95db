"""Private information in texts of many languages: found, masked or replaced, and recorded."""
