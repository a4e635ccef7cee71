"""Other methods that divide images into regions, to compare DRC with."""
