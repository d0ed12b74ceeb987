"""SynPro: pretraining signal from scarce human text.

Importing this package opens no model, no device and no network connection.
"""

__version__ = "0.1.0"
