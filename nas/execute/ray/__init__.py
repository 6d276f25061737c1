"""Training of children with Ray Tune, on this machine or a cluster; apart from the searcher, the only user of ray."""
