"""The statistics of data sets with masks: `statistics` counts, `report` shows."""
