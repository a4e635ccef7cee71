"""The statistics of data sets with masks: `statistics` counts, `page` shows."""
