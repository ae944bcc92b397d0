"""The state of live traffic, as tables and as a page in the style of the report."""

from .page import alarms_table, changes_table, monitor_page, monitor_verdict, rates_table, watched_table

__all__ = ["alarms_table", "changes_table", "monitor_page", "monitor_verdict", "rates_table", "watched_table"]
