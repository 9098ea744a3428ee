"""Storage: where everything lives - nodes, shards, and one file per noun with its SQL in sql/."""
