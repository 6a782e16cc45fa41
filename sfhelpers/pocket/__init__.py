"""The plumbing of 90_train_pocket, which trains the embedded models: data, untrained models, kept state, one folder."""
