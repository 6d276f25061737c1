"""Architecture graphs: values that know nothing of torch."""
