"""Every call in and out: identify, decide, record, translate, proxy, meter, record."""
