"""The result, and how it is shown: to a machine as JSON, to a person on a terminal."""
