"""The page on which one watches the regions compete, and the recording of it."""
