"""The journal in SQL: records in, history out. Nobody else knows SQL."""
