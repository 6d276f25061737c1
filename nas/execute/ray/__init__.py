"""Children trained by Ray Tune, on this machine or a cluster: beside the Ray Tune searcher the one user of ray."""
