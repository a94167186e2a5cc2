"""The admin port: health, `/_metrics`, reload."""
