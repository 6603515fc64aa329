"""The deliverer: `deliverer` is its loop, `fan_out` creates deliveries, `dispatcher` sends them, `outcomes` records."""
