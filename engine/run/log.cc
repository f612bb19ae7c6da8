// engine/run/log
