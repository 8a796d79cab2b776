"""The version of asparkle, in one place."""

VERSION = "0.1.0"
