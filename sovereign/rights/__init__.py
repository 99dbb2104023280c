"""What people may ask for, by when they are answered, and what is restricted for whom.

`requests.py` decides, `book.py` reads what was recorded of it. GDPR Art. 12 and 15 to 21.
"""
