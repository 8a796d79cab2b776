"""The worker runtime that every backend starts: runs tasks, keeps blocks, reads and writes shuffles."""
