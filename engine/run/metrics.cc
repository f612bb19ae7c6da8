// engine/run/metrics
