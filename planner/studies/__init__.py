"""Whatever plans many times: `sweep` over the values of one or two keys."""
