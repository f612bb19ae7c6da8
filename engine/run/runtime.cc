// engine/run/runtime
